/** Completion for bash 4 and later. The script calls no program: a node that is slow completes as fast as any. */
import type { Surface } from '../commands/surface.js';
import type { Completions } from '../config/kinds.js';
import { commonOptions, positionalOffer, quoted, valueOffers } from './offers.js';

export function bashScript(surfaces: readonly Surface[]): string {
  const names = surfaces.map(({ name }) => name);
  const common = [...commonOptions.keys()].map((name) => `--${name}`);
  const values = valueOffers(surfaces).map(({ places, offer }) => `  ${places.join(' | ')}) ${offering(offer)} ;;`);
  const words = surfaces.map((surface) => {
    const options = [...surface.options.keys()].map((name) => `--${name}`);
    const positional = positionalOffer(surface);
    const line = `words=${quoted([...options, ...common].join(' '))}`;
    if (positional === undefined) return `    ${surface.name}) ${line} ;;`;
    return `    ${surface.name}) if [[ $word == -* ]]; then ${line}; else ${offering(positional)}; fi ;;`;
  });
  return `# Completion of holdfast for bash, made by: holdfast completion bash
_holdfast() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} front= command= words= files= at
  # Bash takes --option=value apart at the =, unless it was told otherwise.
  if [[ $word == '=' ]]; then
    word=
  elif [[ $before == '=' ]]; then
    before=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $word == --*=* ]]; then
    before=\${word%%=*} front=\${word%%=*}= word=\${word#*=}
  fi
  for ((at = 1; at < COMP_CWORD; at++)); do
    case \${COMP_WORDS[at]} in
    ${names.join(' | ')})
      command=\${COMP_WORDS[at]}
      break
      ;;
    esac
  done
  case $command:$before in
${values.join('\n')}
  *)
    case $command in
    '') words=${quoted([...names, ...common].join(' '))} ;;
${words.join('\n')}
    esac
    ;;
  esac
  local IFS=$' \\t\\n'
  COMPREPLY=($(compgen -P "$front" -W "$words" -- "$word"))
  if [[ $files ]]; then
    IFS=$'\\n'
    COMPREPLY+=($(compgen -P "$front" -f -- "$word"))
    compopt -o filenames 2>/dev/null
  fi
}
complete -F _holdfast holdfast
`;
}

function offering({ values, files }: Completions): string {
  return `words=${quoted(values.join(' '))} files=${files ? 'yes' : ''}`;
}
