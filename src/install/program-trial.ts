/**
 * Whether a program would start with a configuration, asked of that program: it is told to listen where nobody can, and is not heard of
 * but for what it says before it comes to that. Changes nothing; the program may be of another version than this one.
 */
import { parse } from 'yaml';
import { isSameSocket } from '../config/same-socket.js';
import { socketOf } from './kubelet.js';
import { complaint, type Machine } from './machine.js';
import { paths } from './paths.js';
import { Refusal } from './refusal.js';
import { serviceStart, variableOf } from './unit-environment.js';

/** No folder can be made there. */
const nowhere = '/proc/holdfast/trial.sock';
/** Of `serve`: it was told something that it does not understand. */
const notUnderstood = 2;
const otherNode =
  'give a node binary for this machine (20.19 or later, with the C library it was built for): --node FILE';

export interface Program {
  /** Files of the node. */
  readonly node: string;
  readonly bundle: string;
}

/** @returns Its version. @throws {Refusal} It does not run here. */
export async function versionOf({ run }: Machine, { node, bundle }: Program): Promise<string> {
  const ran = await run(node, [bundle, '--version']);
  if (ran.code !== 0) throw new Refusal(`${bundle} does not run here with ${node}: ${complaint(ran)}`, otherNode);
  return ran.stdout.trim();
}

/**
 * @param config The file that it would be given.
 * @throws {Refusal} It would not start.
 */
export async function tryProgram(machine: Machine, { node, bundle }: Program, config: string): Promise<void> {
  const start = await serviceStart(machine);
  const { argv, variables } = start;
  const listen = argv.listen ?? variableOf(start, 'listen')?.value ?? listenIn(machine.files.text(config));
  const socket = listen === undefined ? paths.socket : socketOf(listen);
  // What the program itself would say of the socket that systemd passes to it.
  if (socket !== undefined && !isSameSocket(machine.files.real(socket), machine.files.real(paths.socket))) {
    throw new Refusal(
      `the configuration says listen ${listen}, and the socket of holdfast.socket is ${paths.socket}`,
      'leave listen out, and run this again',
    );
  }
  const options = { ...argv, ...(argv.config === paths.config ? { config } : {}), listen: nowhere };
  const given = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const ran = await machine.run('env', [
    '-i',
    'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
    ...variables.map(({ name, value }) => `${name}=${value}`),
    node,
    bundle,
    'serve',
    ...given,
  ]);
  if (ran.code === notUnderstood) {
    const said = complaint(ran)
      .replace(/^holdfast: /, '')
      .replaceAll(config, paths.config);
    throw new Refusal(`the new program refuses its configuration: ${said}`, 'put that right, and run this again');
  }
  // What it says once it has taken everything else.
  if (ran.stderr.includes(nowhere) || ran.stderr.includes('--listen')) return;
  throw new Refusal(`the new program does not start here: ${complaint(ran)}`, 'nothing was changed; give another one');
}

/** @param text Of a configuration; what is wrong with it the program says. */
function listenIn(text: string | undefined): string | undefined {
  try {
    const { listen } = (parse(text ?? '') ?? {}) as Readonly<Record<string, unknown>>;
    return typeof listen === 'string' ? listen : undefined;
  } catch {
    return undefined;
  }
}
