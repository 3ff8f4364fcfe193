/** `holdfast forget`: has a running Holdfast forget what it remembers of a pod, as far as that is safe. */
import { askCreations, askForget } from './answers.js';
import { AdminError } from './client.js';
import { ofPod, podsIn } from './pods.js';
import { exitCodes } from './status.js';

export interface ForgetOptions {
  readonly socket: string;
  readonly pod: string;
  /** undefined: all of the pod. */
  readonly container: string | undefined;
}

export interface ForgetIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** @returns The exit code. */
export async function runForget({ socket, pod, container }: ForgetOptions, io: ForgetIo): Promise<number> {
  try {
    const { creations } = await askCreations(socket, true);
    const pods = podsIn(ofPod(creations, pod));
    const [uid, ...others] = pods.keys();
    if (uid === undefined) {
      io.stderr.write(`holdfast: there is nothing of a pod ${pod} to be forgotten\n`);
      return exitCodes.noSuchPod;
    }
    if (others.length > 0) {
      io.stderr.write(`holdfast: ${pod} is ${pods.size} pods; name one by its uid: ${[...pods.values()].join(', ')}\n`);
      return exitCodes.noSuchPod;
    }
    const { results } = await askForget(socket, { uid, container });
    if (results.length === 0) {
      io.stderr.write(
        `holdfast: there is nothing of ${container === undefined ? `pod ${pod}` : `container ${container} of pod ${pod}`} to be forgotten\n`,
      );
      return exitCodes.noSuchPod;
    }
    for (const { namespace, pod: name, container: of, kind, attempt, state, outcome, text } of results) {
      const thing =
        kind === 'podSandbox' ? 'pod sandbox' : `${kind === 'start' ? 'start of container' : 'container'} ${of}`;
      io.stdout.write(`${outcome}: ${namespace}/${name}, ${thing}, attempt ${attempt} (${state}): ${text}\n`);
    }
    return results.some(({ outcome }) => outcome === 'done') ? exitCodes.well : exitCodes.stuck;
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    io.stderr.write(`holdfast: ${error.message}\n`);
    return exitCodes.cannotAsk;
  }
}
