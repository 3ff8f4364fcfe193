/** Tells whether two container requests ask for the same resources. Knows no request around them. */
import { hash } from 'node:crypto';
import { messageSchema } from '../cri/schema.js';
import { NormalMessage, normalBytes } from './normal-form.js';

// Field numbers of CRI v1.
const containerResources = { linux: 1, windows: 2 } as const;
const linuxResources = { cpusetCpus: 6, cpusetMems: 7, hugepageLimits: 8 } as const;
const hugepageLimit = { pageSize: 1 } as const;

/** Of a SHA-256; no more than two of one container are ever compared. */
const digestBytes = 8;

/**
 * @param linux A LinuxContainerResources, changed here: its cpusets do not count.
 * @param windows A WindowsContainerResources.
 * @returns 16 hex digits; `''` where both are absent or say nothing.
 */
export function resourcesDigest(linux: NormalMessage | undefined, windows: NormalMessage | undefined): string {
  linux?.drop(linuxResources.cpusetCpus);
  linux?.drop(linuxResources.cpusetMems);
  linux?.sortMessages(linuxResources.hugepageLimits, hugepageLimit.pageSize);
  const both = new NormalMessage(messageSchema('ContainerResources'));
  if (saysSomething(linux)) both.fields.set(containerResources.linux, { kind: 'message', value: linux });
  if (saysSomething(windows)) both.fields.set(containerResources.windows, { kind: 'message', value: windows });
  if (both.fields.size === 0) return '';
  return hash('sha256', normalBytes(both), 'buffer').toString('hex', 0, digestBytes);
}

function saysSomething(message: NormalMessage | undefined): message is NormalMessage {
  return message !== undefined && (message.fields.size > 0 || message.unknown.length > 0);
}
