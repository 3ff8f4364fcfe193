/** Of `holdfast check`: what Holdfast is configured with, wherever that is said. */
import { parse } from 'yaml';
import { configOption, environmentName, options } from '../config/options.js';
import { unknownVariables } from '../config/unknown-variables.js';
import { socketOf } from '../install/kubelet.js';
import { paths } from '../install/paths.js';
import { valuesOf, variableOf } from '../install/unit-environment.js';
import { type Found, fail, ok, warn } from './finding.js';
import type { Scene } from './scene.js';

/** Of the unit: EnvironmentFile=. */
const environmentFile = '/etc/default/holdfast';
/** Names of options by those of their variables. */
const knownVariables: ReadonlyMap<string, string> = new Map(
  [...Object.values(options), configOption].map(({ name }) => [environmentName(name), name]),
);

export function config({ isInstalled, runtime, start, config: read, configFault }: Scene): Found | undefined {
  if (!isInstalled) return undefined;
  const place = (option: string) => variableOf(start, option)?.file ?? paths.config;
  if (read === undefined)
    return fail(`${paths.config}: ${configFault}`, `put that right, then systemctl restart holdfast.service`);
  if (read.listen !== paths.socket) {
    return fail(
      `${place('listen')} says listen ${read.listen}, and the kubelet is told ${paths.socket}`,
      `set listen: ${paths.socket}, then systemctl restart holdfast.service`,
    );
  }
  if (runtime !== undefined && socketOf(read.runtime) !== socketOf(runtime)) {
    return fail(
      `${place('runtime')} says runtime ${read.runtime}, and the runtime is at ${runtime}`,
      `set runtime: ${runtime}, then systemctl restart holdfast.service`,
    );
  }
  return ok(`${paths.config} is accepted`);
}

/** A variable beats the file, and nobody who reads that sees it. */
export function environment({ machine, isInstalled, start }: Scene): Found | undefined {
  if (!isInstalled) return undefined;
  const file = start.argv[configOption.name];
  const settings = settingsIn(file === undefined ? undefined : machine.files.text(file));
  const unknown = new Map(unknownVariables(valuesOf(start)).map(({ variable, nearest }) => [variable, nearest]));
  const said: string[] = [];
  for (const { name, value, file: place, isOfFile } of start.variables) {
    if (value === '' || !(unknown.has(name) || knownVariables.has(name))) continue;
    const option = knownVariables.get(name) ?? '';
    const inFile = settings.get(option);
    const nearest = unknown.get(name);
    if (unknown.has(name)) {
      const meant = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
      said.push(`${name} in ${place} is no option of Holdfast${meant}`);
    } else if (start.argv[option] !== undefined) {
      said.push(`${name} in ${place} has no effect: the unit's command line has --${option}`);
    } else if (inFile !== undefined && inFile !== value) {
      said.push(`${name}=${value} in ${place} beats ${option}: ${inFile} in ${file}`);
    } else if (option === options.runtime.name && !isOfFile) {
      said.push(`${name}=${value} in ${place} is not known to the bypass, which goes elsewhere`);
    }
  }
  if (said.length > 0) {
    return warn(
      said.join('; '),
      `set each option in one place, ${paths.config} or ${environmentFile}, then systemctl restart holdfast.service`,
    );
  }
  const count = start.variables.filter(({ name, value }) => value !== '' && knownVariables.has(name)).length;
  return count === 0 ? undefined : ok(`options in the environment of holdfast.service: ${count}`);
}

/** @param text Of a configuration. @returns As written; nothing where it cannot be read, which another check says. */
function settingsIn(text: string | undefined): ReadonlyMap<string, string> {
  try {
    const settings: unknown = parse(text ?? '', { schema: 'failsafe' });
    return new Map(Object.entries(settings ?? {}).map(([name, value]) => [name, String(value)]));
  } catch {
    return new Map();
  }
}
