/** What the arms of a comparison are. */
import { resources } from '../../throttle/pressure.js';
import type { Profile } from '../runtime/profiles.js';
import type { ArmName, Scenario } from './scenario.js';

export interface Arm {
  readonly name: ArmName;
  readonly title: string;
  /** Of the simulated runtime. */
  readonly profile: Profile;
  /** Arguments for `holdfast serve` in front of the runtime; undefined: no Holdfast. */
  readonly holdfast: readonly string[] | undefined;
}

const strategies: Readonly<Record<Profile, string>> = {
  containerd: 'stops when the caller leaves',
  'crio-remove': 'finishes, then removes what came too late',
  'crio-store': 'finishes, and keeps it for the next try',
};

/** @param runtime What is behind it, in a title. */
export function armOf(name: ArmName, { runtime: { profile }, holdfast }: Scenario, runtime: string = profile): Arm {
  switch (name) {
    case 'direct':
      return { name, title: `straight to ${runtime}`, profile, holdfast: undefined };
    case 'holdfast':
      return { name, title: `${runtime} through Holdfast`, profile, holdfast };
    case 'holdfast-off': {
      const others = holdfast.filter((option) => !option.startsWith('--admission='));
      const title = `${runtime} through Holdfast without admission`;
      return { name, title, profile, holdfast: [...others, '--admission=off'] };
    }
    case 'holdfast-no-psi': {
      const others = holdfast.filter((option) => !option.startsWith('--pressure-'));
      const title = `${runtime} through Holdfast that knows of no pressure`;
      return { name, title, profile, holdfast: [...others, ...resources.map((name) => `--pressure-${name}=off`)] };
    }
    default:
      return { name, title: `${name}: ${strategies[name]}`, profile: name, holdfast: undefined };
  }
}
