/** When links between the logs of a container's attempts are made and removed, and what is said where they cannot be. */
import type { Logger } from 'pino';
import type { ContainerFingerprint, Fingerprint } from '../cache/fingerprint.js';
import { clearLogLink, linkLog } from './pod-logs.js';

export interface PodLogLinks {
  /** Something that was asked for is given as what was made. Never rejects. */
  given(asked: Fingerprint, made: Fingerprint): Promise<void>;
  /** A container is about to be made, and gets a log of its own. Never rejects. */
  beforeContainer(asked: ContainerFingerprint): Promise<void>;
}

/** @param isOn Whether Holdfast may write into the log directories of pods at all. */
export function podLogLinks(isOn: boolean, log: Logger): PodLogLinks {
  if (!isOn) return { given: async () => {}, beforeContainer: async () => {} };
  return {
    async given(asked, made) {
      if (asked.kind !== 'container' || made.kind !== 'container') return;
      if (asked.identity.attempt === made.identity.attempt) return;
      try {
        await linkLog(asked, made);
      } catch (error) {
        log.warn({ asked: asked.logPath, made: made.logPath, error: String(error) }, 'log not linked');
      }
    },
    async beforeContainer(asked) {
      try {
        await clearLogLink(asked);
      } catch (error) {
        log.warn({ asked: asked.logPath, error: String(error) }, 'link of a log not removed');
      }
    },
  };
}
