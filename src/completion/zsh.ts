/** Completion for zsh, options with what they mean. The script calls no program. */
import type { Declaration, Surface } from '../commands/surface.js';
import type { Completions } from '../config/kinds.js';
import { commonOptions, positionalOffer, quoted, valueOffers } from './offers.js';

export function zshScript(surfaces: readonly Surface[]): string {
  const values = valueOffers(surfaces).map(
    ({ places, offer }) => `    ${places.join('|')}) ${offering(offer)}; return ;;`,
  );
  const options = surfaces.map((surface) => {
    const positional = positionalOffer(surface);
    const offer = positional === undefined ? '' : ` [[ $PREFIX == -* ]] || { ${offering(positional)}; return };`;
    return `    ${surface.name})${offer} options=(${described([...surface.options, ...commonOptions])}) ;;`;
  });
  const commands = surfaces.map(({ name, describe }) => quoted(`${name}:${describe}`)).join(' ');
  return `#compdef holdfast
# Completion of holdfast for zsh, made by: holdfast completion zsh
_holdfast() {
  local before=$words[CURRENT-1] command= at
  local -a options commands
  if [[ $PREFIX == --*=* ]]; then
    before=\${PREFIX%%=*}
    compset -P '*='
  fi
  for ((at = 2; at < CURRENT; at++)); do
    case $words[at] in
    ${surfaces.map(({ name }) => name).join('|')}) command=$words[at]; break ;;
    esac
  done
  case $command:$before in
${values.join('\n')}
  esac
  case $command in
    '')
      if [[ $PREFIX != -* ]]; then
        commands=(${commands})
        _describe command commands
        return
      fi
      options=(${described([...commonOptions])})
      ;;
${options.join('\n')}
  esac
  _describe -o option options
}
if [[ $funcstack[1] == _holdfast ]]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
`;
}

/** What stands before the first colon is offered, what stands after it explains. */
function described(options: readonly (readonly [string, Declaration])[]): string {
  return options.map(([name, { describe }]) => quoted(`--${name}:${(describe || '').replace(/\s+/g, ' ')}`)).join(' ');
}

function offering({ values, files }: Completions): string {
  const offers = [values.length > 0 ? `compadd -- ${values.map(quoted).join(' ')}` : [], files ? '_files' : []].flat();
  return offers.length > 0 ? offers.join('; ') : ':';
}
