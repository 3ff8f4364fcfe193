/** Variables of the environment that look like options of Holdfast and are none. */
import { nearest } from './nearest.js';
import { configOption, environmentName, options } from './options.js';

export interface UnknownVariable {
  readonly variable: string;
  /** The one that may have been meant. */
  readonly nearest: string | undefined;
}

const prefix = 'HOLDFAST_';

/**
 * What Kubernetes puts into the environment of each container for a service whose name begins with `holdfast`: HOLDFAST_SERVICE_HOST,
 * HOLDFAST_METRICS_SERVICE_PORT_HTTP, HOLDFAST_PORT, HOLDFAST_PORT_9090_TCP_ADDR. Source: Kubernetes,
 * pkg/kubelet/envvars/envvars.go.
 */
const ofService = /_SERVICE_(?:HOST|PORT(?:_.+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/;
const linkOfService = /_PORT$/;
const linkTo = /^(?:tcp|udp|sctp):\/\//;

/** An empty variable is not set, as everywhere. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): UnknownVariable[] {
  const known = [...Object.values(options), configOption].map(({ name }) => environmentName(name));
  return Object.entries(env)
    .filter(([name, value = '']) => name.startsWith(prefix) && value !== '' && !known.includes(name))
    .filter(([name, value = '']) => !ofService.test(name) && !(linkOfService.test(name) && linkTo.test(value)))
    .map(([variable]) => ({ variable, nearest: nearestVariable(variable, known) }));
}

/** What all of them begin with says nothing about which is meant. */
function nearestVariable(variable: string, known: readonly string[]): string | undefined {
  const name = nearest(
    variable.slice(prefix.length),
    known.map((other) => other.slice(prefix.length)),
  );
  return name === undefined ? undefined : `${prefix}${name}`;
}
