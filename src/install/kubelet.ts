/**
 * How the kubelet of a node is told its runtime's endpoint: by a flag, by a file of its --config-dir or by its --config, and which of
 * them wins. Reads only.
 *
 * Source: a flag beats the files of --config-dir in alphanumeric order, those beat --config (KEP-3983).
 */
import { endpoint as endpointKind } from '../config/kinds.js';
import { endpointIn, type KubeletConfig, parseKubeletConfig } from './kubelet-config.js';
import { complaint, type Machine } from './machine.js';
import { Refusal } from './refusal.js';
import { unitState } from './systemctl.js';
import { commandLine, unitSettings, type Word } from './systemd-unit.js';

export const endpointFlag = '--container-runtime-endpoint';
/** What a kubelet uses that is told none. Source: v1beta1 SetDefaults_KubeletConfiguration. */
const defaultEndpoint = 'unix:///run/containerd/containerd.sock';
/** What kubelets read of a --config-dir. */
const dropInSuffix = '.conf';

/** What an answer about a kubelet is read from; a plan looks at one that is changed. */
export interface KubeletSources {
  /** As systemd names it: kubelet.service, k3s.service. */
  readonly unit: string;
  /** What `systemctl cat` says of it. */
  readonly unitText: string;
  /** Where the program that runs the kubelet gives it one that its unit does not name (k3s). */
  readonly ownConfigDir: string | undefined;
  text(file: string): string | undefined;
  names(folder: string): readonly string[];
}

/** Where the endpoint that counts comes from. */
export type EndpointSource =
  | { readonly kind: 'flag'; readonly word: Word }
  | { readonly kind: 'config-dir' | 'config'; readonly file: string }
  | { readonly kind: 'default' };

export interface KubeletSetup {
  /** The kubelet's own command line; empty where another program runs it (k3s). */
  readonly words: readonly Word[];
  readonly configDir: string | undefined;
  readonly configFile: string | undefined;
  /** Files of `configDir`, the one that counts last. */
  readonly dropIns: readonly string[];
  /** As written, and where. */
  readonly endpoint: string;
  readonly from: EndpointSource;
  /** Fields at the top of the configuration, a later file's before an earlier one's; flags are not in it. */
  readonly config: KubeletConfig;
}

/** @throws {KubeletConfigError} A file of its configuration cannot be read. */
export function kubeletSetup(sources: KubeletSources): KubeletSetup {
  const isOwn = sources.ownConfigDir === undefined;
  const words = isOwn ? commandLine(unitSettings(sources.unitText), (file) => sources.text(file)) : [];
  const configFile = flagOf(words, '--config')?.value;
  const configDir = sources.ownConfigDir ?? flagOf(words, '--config-dir')?.value;
  const names = configDir === undefined ? [] : sources.names(configDir);
  const dropIns = names.filter((name) => name.endsWith(dropInSuffix)).map((name) => `${configDir}/${name}`);
  let config: KubeletConfig = {};
  let [endpoint, from]: [string, EndpointSource] = [defaultEndpoint, { kind: 'default' }];
  for (const file of [...(configFile === undefined ? [] : [configFile]), ...dropIns]) {
    const text = sources.text(file);
    if (text === undefined) continue;
    const read = parseKubeletConfig(text, file);
    config = { ...config, ...read };
    const said = endpointIn(read);
    if (said !== undefined) [endpoint, from] = [said, { kind: file === configFile ? 'config' : 'config-dir', file }];
  }
  const flag = flagOf(words, endpointFlag);
  if (flag !== undefined && flag.value !== '') [endpoint, from] = [flag.value, { kind: 'flag', word: flag.word }];
  return { words, configDir, configFile, dropIns, endpoint, from, config };
}

/** @returns The last of a flag, which counts. */
export function flagOf(words: readonly Word[], name: string): { value: string; word: Word } | undefined {
  let found: { value: string; word: Word } | undefined;
  words.forEach((word, at) => {
    const next = words[at + 1];
    if (word.text.startsWith(`${name}=`)) found = { value: word.text.slice(name.length + 1), word };
    else if (word.text === name && next !== undefined) found = { value: next.text, word: next };
  });
  return found;
}

/** @returns The socket's path, /var/run read as /run; undefined where it is no unix socket. */
export function socketOf(endpoint: string): string | undefined {
  return endpointKind.parse(endpoint)?.replace(/^\/var\/run\//, '/run/');
}

export function isSameEndpoint(a: string, b: string): boolean {
  const socket = socketOf(a);
  return socket !== undefined && socket === socketOf(b);
}

/** For a line that says where the endpoint stands. */
export function shownSource(from: EndpointSource): string {
  if (from.kind === 'default') return "the kubelet's own default";
  if (from.kind === 'flag') return `${endpointFlag} in ${from.word.origin.file}`;
  return from.file;
}

/** From here on it is what runs a command that failed, chroot(8) or this process: nothing is known of the unit. */
const firstNotRun = 124;

/** @returns undefined where there is no such unit. @throws {Refusal} systemctl cannot be run. */
export async function kubeletSources(
  { files, run }: Pick<Machine, 'files' | 'run'>,
  unit: string,
  ownConfigDir?: string,
): Promise<KubeletSources | undefined> {
  const ran = await run('systemctl', ['cat', unit]);
  const { code, stdout } = ran;
  if (code >= firstNotRun) {
    throw new Refusal(
      `systemctl cannot be run: ${complaint(ran)}`,
      'systemd has to be there; a container needs SYS_CHROOT',
    );
  }
  if (code !== 0) return undefined;
  const text = (file: string) => files.text(file);
  return { unit, unitText: stdout, ownConfigDir, text, names: (folder) => files.names(folder) };
}

/** @returns The endpoint that a kubelet was started with as a flag, wherever that came from; undefined: none, or it does not run. */
export async function runningFlag(machine: Pick<Machine, 'files' | 'run'>, unit: string): Promise<string | undefined> {
  const { MainPID } = await unitState(machine, unit, 'MainPID');
  const origin = { kind: 'exec-start', file: '', raw: '' } as const;
  const words = (processArguments(machine, MainPID) ?? []).map((text) => ({ text, origin }));
  return flagOf(words, endpointFlag)?.value;
}

/** @returns Words of a running process's command line; undefined where there is none. */
export function processArguments({ files }: Pick<Machine, 'files'>, pid: string): string[] | undefined {
  const line = /^[1-9]\d*$/.test(pid) ? files.text(`/proc/${pid}/cmdline`) : undefined;
  return line === undefined || line === '' ? undefined : line.replace(/\0$/, '').split('\0');
}
