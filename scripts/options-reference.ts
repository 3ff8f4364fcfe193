/** Writes docs/options.md out of what the commands themselves say: `npm run docs`. A test compares the two. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { commandsFor } from '../src/cli.js';
import { type Declaration, type Surface, surfacesOf, takesValue } from '../src/commands/surface.js';
import { configOption, environmentName, type Option, options } from '../src/config/options.js';

export const optionsPage = fileURLToPath(new URL('../docs/options.md', import.meta.url));

export async function optionsMarkdown(): Promise<string> {
  const surfaces = await surfacesOf(commandsFor({ env: {}, stdout: { write: () => undefined } }));
  return `# Options

This page is made by \`npm run docs\`. Every command explains its own options with \`--help\`, and \`holdfast completion\` makes bash and zsh
complete them.

${surfaces.map(({ name, describe }) => `- [\`holdfast ${name}\`](#holdfast-${name}): ${plain(describe)}.`).join('\n')}

${surfaces.map((surface) => (surface.name === 'serve' ? serveSection(surface) : section(surface))).join('\n')}`;
}

function serveSection({ name, describe, options: declared }: Surface): string {
  const all = Object.values<Option<unknown>>(options);
  const groups = [...new Set(all.map(({ group }) => group))];
  const tables = groups.map(
    (group) =>
      `### ${group}\n\n${all
        .filter((option) => option.group === group)
        .map(entry)
        .join('\n')}`,
  );
  return `## holdfast ${name}

${plain(describe)}.

An option has one name on the command line (\`--hold-ttl 5m\`), in the environment (\`HOLDFAST_HOLD_TTL=5m\`; empty counts as not set) and in
the file of \`--config\` (\`hold-ttl: 5m\`). The command line wins over the environment, that over the file, and that over the default. What
may be given more than once is, in the environment, one text with commas, and in the file that or a list. Durations are whole numbers with
units: \`250ms\`, \`90s\`, \`5m\`, \`1h30m\`. A socket is written \`unix:///run/x.sock\`, \`unix:/run/x.sock\` or \`/run/x.sock\`; relative paths are
refused, since the working directory of a service is \`/\`.

- \`--${configOption.name}\`, \`${environmentName(configOption.name)}\`: ${plain(configOption.description)}. A key that is no option is an error.
- \`--dry-run\`: ${plain(String(declared.get('dry-run')?.describe))}. Exit code 2: it is not.

A variable that begins with \`HOLDFAST_\` and is no option is a warning in the log. Those that Kubernetes sets for services are passed over.

${tables.join('\n')}`;
}

function entry({
  name,
  kind,
  default: value,
  defaultText,
  required,
  repeatable,
  description,
}: Option<unknown>): string {
  const shown = defaultText ?? (value === undefined || value === '' ? 'none' : `\`${value}\``);
  return `#### --${name}

${plain(description)}.

- Variable: \`${environmentName(name)}\`
- ${required === true ? 'Required' : `Default: ${shown}`}
- Values: ${kind.allowed}${repeatable === true ? '; may be given more than once' : ''}
`;
}

function section({ name, usage, describe, positionals, options: own, epilogue }: Surface): string {
  const rows = [
    ...[...positionals].map(([positional, declaration]) => row(`\`${positional.toUpperCase()}\``, declaration)),
    ...[...own].map(([option, declaration]) =>
      row(`\`--${option}${takesValue(declaration) ? ` ${option.toUpperCase()}` : ''}\``, declaration),
    ),
  ];
  const table = rows.length === 0 ? '' : `\n| | meaning | default |\n|---|---|---|\n${rows.join('\n')}\n`;
  const ending = epilogue === '' ? '' : `\n${epilogue.replaceAll('<', '\\<').replace(/\n+/g, '\n\n')}\n`;
  return `## holdfast ${name}\n\n\`holdfast ${usage}\`: ${plain(describe)}.\n${table}${ending}`;
}

function row(name: string, { describe, default: value, defaultDescription }: Declaration): string {
  const shown = defaultDescription ?? (value === undefined ? '' : `\`${String(value)}\``);
  return `| ${name} | ${plain(describe || '')} | ${shown} |`.replace(/ +/g, ' ');
}

/** On one line, and without what Markdown would take for its own. */
function plain(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/\.$/, '').replaceAll('|', '\\|').replaceAll('<', '\\<');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(optionsPage, await optionsMarkdown());
