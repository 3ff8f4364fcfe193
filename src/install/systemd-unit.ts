/**
 * What systemd makes of a service's unit: its command line, and for each word of it the file and line that it comes from. Knows nothing
 * of kubelets.
 *
 * Source: systemd.service(5), "Command lines"; systemd.exec(5), `Environment=` and `EnvironmentFile=`; systemd.syntax(7).
 */

/** Where a setting stands. */
export interface Origin {
  readonly kind: 'exec-start' | 'environment' | 'environment-file';
  readonly file: string;
  /** As it stands there, without `Key=` for those of a unit, continued lines joined; the whole line of an environment file. */
  readonly raw: string;
}

/** A word of a command line. */
export interface Word {
  readonly text: string;
  readonly origin: Origin;
}

export interface Setting {
  readonly file: string;
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/**
 * @param text What `systemctl cat UNIT` says: each file after a line `# /its/path`, in the order in which they count.
 */
export function unitSettings(text: string): Setting[] {
  const settings: Setting[] = [];
  let [file, section, continued] = ['', '', ''];
  for (const line of text.split('\n')) {
    const path = /^# (\/\S+)$/.exec(line)?.[1];
    if (continued === '' && path !== undefined) file = path;
    if (/^\s*[#;]/.test(line)) continue;
    const whole = continued + line;
    if (whole.endsWith('\\')) {
      continued = `${whole.slice(0, -1)} `;
      continue;
    }
    continued = '';
    section = /^\s*\[(.+)\]\s*$/.exec(whole)?.[1] ?? section;
    const [, key, value] = /^\s*([A-Za-z][A-Za-z0-9]*)\s*=(.*)$/.exec(whole) ?? [];
    if (key !== undefined && value !== undefined) settings.push({ file, section, key, value: value.trim() });
  }
  return settings;
}

/** The settings of one key that count: an empty one takes back those before it. */
function countingSettings(settings: readonly Setting[], key: string): Setting[] {
  const ofKey = settings.filter((setting) => setting.section === 'Service' && setting.key === key);
  return ofKey.slice(ofKey.findLastIndex(({ value }) => value === '') + 1);
}

/** @param read An environment file's text; undefined where there is none. */
export function commandLine(settings: readonly Setting[], read: (file: string) => string | undefined): Word[] {
  const exec = countingSettings(settings, 'ExecStart').at(-1);
  if (exec === undefined) return [];
  const variables = environment(settings, read);
  const origin: Origin = { kind: 'exec-start', file: exec.file, raw: exec.value };
  // The signs before a program's path say how it is run.
  return words(exec.value.replace(/^[@\-:+!]+/, '')).flatMap((word) => expanded(word, origin, variables));
}

/** @returns What the program finds in its environment, by name. Those of a file beat those of `Environment=`, a later file an earlier one. */
export function environment(
  settings: readonly Setting[],
  read: (file: string) => string | undefined,
): ReadonlyMap<string, Word> {
  const variables = new Map<string, Word>();
  for (const { file, value } of countingSettings(settings, 'Environment')) {
    for (const assignment of words(value)) assign(variables, assignment, { kind: 'environment', file, raw: value });
  }
  for (const { value } of countingSettings(settings, 'EnvironmentFile')) {
    const file = value.replace(/^-/, '');
    for (const raw of (read(file) ?? '').split('\n')) {
      const [, name, quoted] = /^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(raw) ?? [];
      if (name === undefined || quoted === undefined) continue;
      assign(variables, `${name}=${unquoted(quoted.trim())}`, { kind: 'environment-file', file, raw });
    }
  }
  return variables;
}

function assign(variables: Map<string, Word>, assignment: string, origin: Origin): void {
  const at = assignment.indexOf('=');
  if (at > 0) variables.set(assignment.slice(0, at), { text: assignment.slice(at + 1), origin });
}

/** A `$NAME` that is a word of its own becomes as many as its value has; a `${NAME}` stays in its word. */
function expanded(word: string, origin: Origin, variables: ReadonlyMap<string, Word>): Word[] {
  const alone = /^\$([A-Za-z_][A-Za-z0-9_]*)$/.exec(word)?.[1];
  if (alone !== undefined) {
    const value = variables.get(alone);
    return value === undefined ? [] : words(value.text).map((text) => ({ text, origin: value.origin }));
  }
  let from = origin;
  const text = word.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name: string) => {
    const value = variables.get(name);
    from = value?.origin ?? from;
    return value?.text ?? '';
  });
  return [{ text, origin: from }];
}

/** Splits at blanks, and takes quotes away. */
function words(text: string): string[] {
  const pattern = /(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\.|[^\s"'\\])+/g;
  return [...text.matchAll(pattern)].map(([word]) =>
    word.replace(/"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|\\(.)/g, (_, double, single, escaped) =>
      String(double ?? single ?? escaped).replace(/\\(["'\\$`])/g, '$1'),
    ),
  );
}

function unquoted(value: string): string {
  return /^"((?:[^"\\]|\\.)*)"$/.exec(value)?.[1] ?? /^'([^']*)'$/.exec(value)?.[1] ?? value;
}
