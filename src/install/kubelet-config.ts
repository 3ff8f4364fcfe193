/**
 * A KubeletConfiguration as a file, YAML or JSON: what it says, and how its endpoint is changed without a change to anything else.
 * Knows not where such files are.
 *
 * Source: KubeletConfiguration v1beta1, `containerRuntimeEndpoint` (since 1.27).
 */
import { parseAllDocuments } from 'yaml';

export const endpointKey = 'containerRuntimeEndpoint';

/** The file is none that can be read, or none that can be changed safely. */
export class KubeletConfigError extends Error {
  override readonly name = 'KubeletConfigError';
}

export type KubeletConfig = Readonly<Record<string, unknown>>;

/**
 * @param file Its name, for messages.
 * @throws {KubeletConfigError} It is not one mapping.
 */
export function parseKubeletConfig(text: string, file: string): KubeletConfig {
  const documents = [...parseAllDocuments(text, { logLevel: 'error' })];
  if (documents.length > 1) {
    throw new KubeletConfigError(`${file} holds ${documents.length} documents, not one KubeletConfiguration`);
  }
  const [document] = documents;
  const error = document?.errors[0];
  if (error !== undefined) {
    throw new KubeletConfigError(`${file} cannot be parsed: ${error.message.split('\n')[0]?.replace(/:$/, '')}`);
  }
  const content: unknown = document?.toJS() ?? {};
  if (typeof content !== 'object' || Array.isArray(content)) throw new KubeletConfigError(`${file} is no mapping`);
  return content as KubeletConfig;
}

/** @returns The endpoint that it says; undefined where it says none. */
export function endpointIn(config: KubeletConfig): string | undefined {
  const value = config[endpointKey];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/**
 * Says another endpoint in a file, or with undefined none, and changes no other byte.
 *
 * @throws {KubeletConfigError} It cannot be parsed, or what would come out says something else in any other field.
 */
export function withEndpoint(text: string, endpoint: string | undefined, file: string): string {
  const before = parseKubeletConfig(text, file);
  const changed = text.trimStart().startsWith('{') ? inJson(text, endpoint) : inYaml(text, endpoint);
  const cannot = `${file} is written in a way that Holdfast does not change: set ${endpointKey} by hand`;
  try {
    const after = parseKubeletConfig(changed, file);
    if (endpointIn(after) === endpoint && others(after) === others(before)) return changed;
  } catch (cause) {
    throw new KubeletConfigError(cannot, { cause });
  }
  throw new KubeletConfigError(cannot);
}

function inYaml(text: string, endpoint: string | undefined): string {
  const line = new RegExp(`^["']?${endpointKey}["']?[ \\t]*:.*\\n?`, 'm');
  if (endpoint === undefined) return text.replace(line, '');
  const wanted = `${endpointKey}: ${endpoint}\n`;
  if (line.test(text)) return text.replace(line, () => wanted);
  return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${wanted}`;
}

function inJson(text: string, endpoint: string | undefined): string {
  const member = new RegExp(`"${endpointKey}"\\s*:\\s*"(?:[^"\\\\]|\\\\.)*"`);
  if (endpoint === undefined) {
    const alone = new RegExp(`,?\\s*${member.source}`);
    return text.replace(new RegExp(`${member.source}\\s*,\\s*`), '').replace(alone, '');
  }
  const wanted = `${JSON.stringify(endpointKey)}: ${JSON.stringify(endpoint)}`;
  if (member.test(text)) return text.replace(member, () => wanted);
  const isEmpty = /^\s*\{\s*\}\s*$/.test(text);
  return text.replace(/\{(\s*)/, (_, blank: string) => `{${blank}${wanted}${isEmpty ? '' : `,${blank || ' '}`}`);
}

function others(config: KubeletConfig): string {
  const { [endpointKey]: _, ...rest } = config;
  return JSON.stringify(rest);
}
