/**
 * Which files have to change so that the kubelet uses another endpoint, and what will be in them. Writes nothing: it plays the change
 * through until the kubelet's own precedence leads to the new endpoint.
 */
import { basename, dirname } from 'node:path';
import { endpointFlag, isSameEndpoint, type KubeletSetup, type KubeletSources, kubeletSetup } from './kubelet.js';
import { endpointIn, endpointKey, parseKubeletConfig, withEndpoint } from './kubelet-config.js';
import { instanceConfig, type Platform } from './platform.js';
import { Refusal } from './refusal.js';
import type { Origin } from './systemd-unit.js';

/** One file that changes. */
export interface EndpointChange {
  readonly file: string;
  /** `config`: a KubeletConfiguration; `flag`: an environment file with the flag; `unit`: a drop-in of the kubelet's unit. */
  readonly kind: 'config' | 'flag' | 'unit';
  /** The endpoint as it was written there; undefined where none was. */
  readonly previous: string | undefined;
  /** undefined: there was no such file. */
  readonly before: string | undefined;
  readonly after: string;
}

type Edit = Omit<EndpointChange, 'before'>;

/** First line of files that are Holdfast's own. */
export const madeBy = '# Made by holdfast install; taken away by holdfast uninstall.';

/** A flag, a file and a drop-in of each kind can be in each other's way, and hardly more. */
const maxEdits = 8;

/**
 * @param endpoint As it is to be written: `unix:///run/holdfast/holdfast.sock`.
 * @returns Nothing where it already is so.
 * @throws {Refusal} The place that counts is none that can be changed safely.
 * @throws {KubeletConfigError} A configuration cannot be read.
 */
export function planEndpoint(sources: KubeletSources, platform: Platform, endpoint: string): EndpointChange[] {
  const changes = new Map<string, EndpointChange>();
  const add = (edit: Edit) => {
    const { previous, before } = changes.get(edit.file) ?? { ...edit, before: sources.text(edit.file) };
    if (edit.after !== before) changes.set(edit.file, { ...edit, previous, before });
  };
  // kubeadm ≥ 1.34 keeps the endpoint in a file of its own and patches the other with it; both say the same.
  if (platform === 'kubeadm' && sources.text(instanceConfig) !== undefined) {
    for (const file of [instanceConfig, kubeletSetup(sources).configFile]) {
      const text = file === undefined ? undefined : sources.text(file);
      if (file !== undefined && text !== undefined) add(editConfig(file, text, endpoint));
    }
  }
  for (let edits = 0; edits < maxEdits; edits += 1) {
    const now = changedSources(sources, [...changes.values()]);
    const setup = kubeletSetup(now);
    if (isSameEndpoint(setup.endpoint, endpoint)) return [...changes.values()];
    add(nextEdit(setup, now, endpoint));
  }
  throw new Refusal(
    'the kubelet would still use another endpoint',
    `set ${endpoint} by hand, then run holdfast install --platform none and holdfast check`,
  );
}

/** @returns What the kubelet would be told once these are made. */
export function changedSources(sources: KubeletSources, changes: readonly EndpointChange[]): KubeletSources {
  // A drop-in of Holdfast is the last one.
  const units = changes.filter(({ kind }) => kind === 'unit').map(({ file, after }) => `# ${file}\n${after}`);
  return {
    ...sources,
    unitText: [sources.unitText, ...units].join('\n'),
    text: (file) => changes.find((change) => change.file === file)?.after ?? sources.text(file),
    names: (folder) => {
      const added = changes.filter(({ file }) => dirname(file) === folder).map(({ file }) => basename(file));
      return [...new Set([...sources.names(folder), ...added])].sort();
    },
  };
}

function nextEdit(setup: KubeletSetup, sources: KubeletSources, endpoint: string): Edit {
  if (setup.from.kind === 'flag') return editFlag(setup.from.word.origin, setup.endpoint, sources, endpoint);
  if (setup.configDir !== undefined) {
    const names = setup.dropIns.map((dropIn) => basename(dropIn));
    const header = `${madeBy}\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n`;
    const after = `${header}${endpointKey}: ${endpoint}\n`;
    return { file: lastName(setup.configDir, names), kind: 'config', previous: undefined, after };
  }
  const text = setup.configFile === undefined ? undefined : sources.text(setup.configFile);
  if (setup.configFile !== undefined && text !== undefined) return editConfig(setup.configFile, text, endpoint);
  throw new Refusal(
    `${sources.unit} names no --config that is there, no --config-dir and no ${endpointFlag}`,
    `give the kubelet ${endpointFlag}=${endpoint} where its flags come from, and run holdfast install --platform none for the rest`,
  );
}

function editConfig(file: string, text: string, endpoint: string): Edit {
  const previous = endpointIn(parseKubeletConfig(text, file));
  if (isSameEndpoint(previous ?? '', endpoint)) return { file, kind: 'config', previous, after: text };
  return { file, kind: 'config', previous, after: withEndpoint(text, endpoint, file) };
}

function editFlag(origin: Origin, previous: string, sources: KubeletSources, endpoint: string): Edit {
  const raw = withFlag(origin.raw, previous, endpoint);
  if (raw === undefined) {
    throw new Refusal(
      `${endpointFlag}=${previous} in ${origin.file} is written in a way that Holdfast does not change`,
      `set it to ${endpoint} by hand`,
    );
  }
  if (origin.kind === 'environment-file') {
    const text = sources.text(origin.file) ?? '';
    return { file: origin.file, kind: 'flag', previous, after: text.replace(origin.raw, () => raw) };
  }
  const others = [...sources.unitText.matchAll(/^# (\/\S+\.conf)$/gm)].map(([, file = '']) => basename(file));
  const file = lastName(`/etc/systemd/system/${sources.unit}.d`, others);
  const earlier = sources.text(file) ?? '';
  const text = earlier.startsWith(madeBy) ? earlier : `${madeBy}\n[Service]\n`;
  const lines = origin.kind === 'exec-start' ? `ExecStart=\nExecStart=${raw}\n` : `Environment=${raw}\n`;
  return { file, kind: 'unit', previous, after: text + lines };
}

/** @returns undefined where the flag's value does not stand there once. */
function withFlag(raw: string, previous: string, endpoint: string): string | undefined {
  const escaped = previous.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const flag = new RegExp(`(${endpointFlag}(?:=|\\s+)["']?)${escaped}(?=["'\\s]|$)`, 'g');
  if (flag.test(raw)) return raw.replace(flag, (_, before: string) => before + endpoint);
  const parts = raw.split(previous);
  return parts.length === 2 ? parts.join(endpoint) : undefined;
}

/** Files that Holdfast adds are known by their names. */
export function isOwnName(file: string): boolean {
  return /(?:-|~)holdfast\.conf$/.test(file);
}

/** @returns A name in the folder that comes behind all others there. */
function lastName(folder: string, others: readonly string[]): string {
  const last =
    others
      .filter((name) => !isOwnName(name))
      .sort()
      .at(-1) ?? '';
  const usual = ['99-holdfast.conf', 'zz-holdfast.conf'].find((name) => name > last);
  return `${folder}/${usual ?? `${last.replace(/\.conf$/, '')}~holdfast.conf`}`;
}

/** For a line that says what is changed. */
export function shownChange({ file, kind, previous, before }: EndpointChange): string {
  const what = kind === 'config' ? endpointKey : endpointFlag;
  if (before === undefined) return `${file} added, with ${what}`;
  return `${what} in ${file}${previous === undefined ? '' : `, which was ${previous}`}`;
}
