/** Requests as a kubelet sends them, shortened, and pieces of requests on the wire. */
import { messageType } from '../../src/cri/schema.js';
import { encodeVarint } from '../../src/cri/wire.js';

export type Fields = Record<string, unknown>;

export const options = { volatileAnnotations: new Set(['kubernetes.io/config.seen']) };

/** What the kubelet sends, shortened; each call gives a fresh one to change. */
export function containerRequest() {
  return {
    pod_sandbox_id: 'p1',
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image: 'registry.example.com/app@sha256:1' },
      command: ['/bin/app', 'serve'],
      args: ['--port=80'],
      envs: [
        { key: 'PATH', value: Buffer.from('/bin') },
        { key: 'TOKEN', value: Buffer.from('very secret') },
        { key: 'HOME', value: Buffer.from('/root') },
      ],
      mounts: [
        { container_path: '/data', host_path: '/var/lib/kubelet/pods/u1/volumes/data' },
        { container_path: '/etc/hosts', host_path: '/var/lib/kubelet/pods/u1/etc-hosts' },
        { container_path: '/dev/termination-log', host_path: '/var/lib/kubelet/pods/u1/containers/main/0a1b2c3d' },
      ],
      labels: { 'io.kubernetes.pod.name': 'web', 'io.kubernetes.container.name': 'main' },
      annotations: {
        'io.kubernetes.container.hash': '9f8e7d6c',
        'io.kubernetes.container.restartCount': '0',
        'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      } as Record<string, string>,
      log_path: 'main/0.log',
      linux: {
        resources: { cpu_shares: 512, cpuset_cpus: '0-3' },
        security_context: { supplemental_groups: [1, 2000], run_as_user: { value: 0 } },
      } as Fields,
    } as Fields & {
      metadata: Fields;
      annotations: Record<string, string>;
      mounts: Fields[];
      envs: Fields[];
      linux: Fields;
    },
    sandbox_config: {
      metadata: { name: 'web', uid: 'u1', namespace: 'shop', attempt: 2 },
      hostname: 'web',
      log_directory: '/var/log/pods/shop_web_u1',
      labels: { app: 'web' } as Record<string, string>,
      annotations: { 'kubernetes.io/config.seen': 'then', 'kubernetes.io/config.source': 'api' } as Record<
        string,
        string
      >,
    },
  };
}

export function podSandboxRequest() {
  return { config: containerRequest().sandbox_config, runtime_handler: 'runc' };
}

export function encode(type: string, fields: object): Buffer {
  const message = messageType(type);
  return Buffer.from(message.encode(message.fromObject(fields)).finish());
}

export function bytesField(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([encodeVarint(number * 8 + 2), encodeVarint(bytes.length), bytes]);
}

/** The container request after `change`. */
export function changed(change: (request: ReturnType<typeof containerRequest>) => void): Buffer {
  const request = containerRequest();
  change(request);
  return encode('CreateContainerRequest', request);
}

export const original = encode('CreateContainerRequest', containerRequest());

/** A field that no CRI request has, `count` times. */
export const many = (count: number) => Buffer.from('9a0600'.repeat(count), 'hex');

/** More fields than are put into a normal form. */
export const tooMany = many(65_536);

export function printed<Print>(print: Print | undefined): Print {
  if (print === undefined) throw new Error('the request has no fingerprint');
  return print;
}
