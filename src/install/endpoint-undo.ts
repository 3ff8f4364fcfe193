/**
 * How one file of the kubelet's gets its old endpoint back. Where somebody has changed it since, only Holdfast's own line in it changes;
 * where that line says something else by now, nothing does.
 */
import { type EndpointChange, madeBy } from './endpoint-plan.js';
import { isSameEndpoint } from './kubelet.js';
import { endpointIn, KubeletConfigError, parseKubeletConfig, withEndpoint } from './kubelet-config.js';

export type Undo =
  /** It is as it was. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'remove' }
  /** `byHand`: somebody has changed the file since, and their changes stay. */
  | { readonly kind: 'write'; readonly text: string; readonly byHand: boolean }
  /** It is not Holdfast's any more. */
  | { readonly kind: 'leave'; readonly why: string };

export interface Undone extends Omit<EndpointChange, 'after'> {
  /** undefined where that is not known any more. */
  readonly after: string | undefined;
  /** What Holdfast wrote there. */
  readonly endpoint: string;
  /** What the kubelet is to use, where `previous` says nothing and the file cannot do without. */
  readonly fallback: string;
}

/** @param current undefined: there is no such file. */
export function undoChange(change: Undone, current: string | undefined): Undo {
  const { before, after, previous, endpoint, fallback } = change;
  if (current === before) return { kind: 'nothing' };
  if (current === undefined) return { kind: 'leave', why: 'it is not there any more' };
  if (current === after)
    return before === undefined ? { kind: 'remove' } : { kind: 'write', text: before, byHand: false };
  if (change.kind === 'config') return undoConfig(change, current);
  if (!current.includes(endpoint)) return { kind: 'leave', why: 'the endpoint in it is not that of Holdfast any more' };
  return { kind: 'write', text: current.replaceAll(endpoint, () => previous ?? fallback), byHand: true };
}

function undoConfig({ previous, endpoint, file }: Undone, current: string): Undo {
  try {
    const said = endpointIn(parseKubeletConfig(current, file));
    if (said === undefined) return { kind: 'leave', why: 'it says no endpoint any more' };
    if (!isSameEndpoint(said, endpoint)) return { kind: 'leave', why: `it says ${said} by now` };
    const text = withEndpoint(current, previous, file);
    const rest = Object.keys(parseKubeletConfig(text, file)).filter((key) => key !== 'apiVersion' && key !== 'kind');
    if (rest.length === 0 && current.startsWith(madeBy)) return { kind: 'remove' };
    return { kind: 'write', text, byHand: true };
  } catch (error) {
    if (!(error instanceof KubeletConfigError)) throw error;
    return { kind: 'leave', why: error.message };
  }
}
