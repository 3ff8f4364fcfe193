/**
 * What `install` did on this node, so that it can be undone: each file of the kubelet that was changed, as it was and as it became, and
 * what was installed. Kept in /var/lib/holdfast as JSON, beside copies of the files.
 */
import { createHash } from 'node:crypto';
import type { EndpointChange } from './endpoint-plan.js';
import type { NodeFiles } from './node-files.js';
import { paths } from './paths.js';

const recordFile = `${paths.state}/record.json`;

/** One changed file of the kubelet. */
export interface RecordedChange extends Pick<EndpointChange, 'file' | 'kind' | 'previous'> {
  /** Name of a copy of what it was; undefined: there was none. */
  readonly before: string | undefined;
  /** Name of a copy of what it became. */
  readonly after: string;
}

export interface InstallRecord {
  /** The unit that runs the kubelet, and where that is told a --config-dir by other means. */
  readonly kubeletUnit: string;
  readonly ownConfigDir: string | undefined;
  /** The runtime's socket, which the kubelet used before; empty while that is not known. */
  readonly runtime: string;
  /** In the order in which they were made. */
  readonly changes: readonly RecordedChange[];
  /** SHA-256 of files as they were installed, by name. */
  readonly installed: Readonly<Record<string, string>>;
  /** What holdfast.service was last started with: digest of program, configuration and units. */
  readonly startedWith: string | undefined;
}

const emptyRecord: InstallRecord = {
  kubeletUnit: 'kubelet.service',
  ownConfigDir: undefined,
  runtime: '',
  changes: [],
  installed: {},
  startedWith: undefined,
};

/** @returns undefined where there is none, or none that can be read: then the node's files have to tell. */
export function readRecord(files: NodeFiles): InstallRecord | undefined {
  const text = files.text(recordFile);
  if (text === undefined) return undefined;
  try {
    return { ...emptyRecord, ...(JSON.parse(text) as Partial<InstallRecord>) };
  } catch {
    return undefined;
  }
}

export function updateRecord(files: NodeFiles, changes: Partial<InstallRecord>): void {
  const record = { ...(readRecord(files) ?? emptyRecord), ...changes };
  files.write(recordFile, `${JSON.stringify(record, null, 2)}\n`, 0o600);
}

export function digest(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Copies what the planned changes find and what they leave, for people, for `uninstall` and for the revert. */
export function backUp(files: NodeFiles, changes: readonly EndpointChange[], folder: string): RecordedChange[] {
  return changes.map(({ file, kind, previous, before, after }) => {
    const copy = {
      before: before === undefined ? undefined : `${folder}/before${file}`,
      after: `${folder}/after${file}`,
    };
    // A kubelet's configuration may name credentials.
    if (copy.before !== undefined) files.write(copy.before, before ?? '', 0o600);
    files.write(copy.after, after, 0o600);
    return { file, kind, previous, ...copy };
  });
}

export function backupFolder(time: Date): string {
  return `${paths.state}/backup/${time.toISOString().replace(/[:.]/g, '-')}`;
}
