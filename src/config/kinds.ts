/**
 * How a setting is written: one kind for each sort of value, turning text into the value. Knows no option by name and not
 * where the text came from, so command line, environment and file all read alike.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { resolve } from 'node:path';
import type { HandlerLimit } from './config.js';

export interface Kind<T> {
  /** What may be given, to be read after "give". */
  readonly allowed: string;
  /** What a shell can offer; undefined: nothing. */
  readonly completions?: Completions;
  /** @returns undefined where the text is refused. */
  parse(text: string): T | undefined;
}

/** What can be offered in place of a value that is being typed. */
export interface Completions {
  readonly values: readonly string[];
  /** The names of files as well. */
  readonly files: boolean;
}

const someFile: Completions = { values: [], files: true };

const msPerUnit = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** @returns ms; undefined unless `text` is whole numbers with units, largest first: `1h30m`, `90s`, `250ms`. */
export function parseDuration(text: string): number | undefined {
  const parts = /^(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(text);
  if (parts === null || text === '') return undefined;
  const [, h, m, s, ms] = parts.map((part) => Number(part ?? 0));
  return (h ?? 0) * msPerUnit.h + (m ?? 0) * msPerUnit.m + (s ?? 0) * msPerUnit.s + (ms ?? 0) * msPerUnit.ms;
}

/** Milliseconds, from `least` to `most`, both written as durations. */
export function duration(least: string, most: string): Kind<number> {
  const leastMs = parseDuration(least) ?? 0;
  const mostMs = parseDuration(most) ?? 0;
  return {
    allowed: `a duration from ${least} to ${most}, like 250ms, 90s, 5m or 1h30m`,
    parse(text) {
      const ms = parseDuration(text);
      return ms !== undefined && ms >= leastMs && ms <= mostMs ? ms : undefined;
    },
  };
}

export function count(least: number, most: number): Kind<number> {
  return {
    allowed: `a whole number from ${least} to ${most}`,
    parse(text) {
      const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
      return value >= least && value <= most ? value : undefined;
    },
  };
}

/** A number above 0 that need not be whole. */
export function rate(most: number): Kind<number> {
  return {
    allowed: `a number above 0 and up to ${most}, like 5 or 0.5`,
    parse(text) {
      const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
      return value > 0 && value <= most ? value : undefined;
    },
  };
}

/** Percent from 1 to `most`; the sign may be written. */
export function percent(most: number): Kind<number> {
  const value = count(1, most);
  return {
    allowed: `percent from 1 to ${most}, like 50 or 50%`,
    parse: (text) => value.parse(text.replace(/%$/, '')),
  };
}

export function orOff<T>(kind: Kind<T>): Kind<T | 'off'> {
  return {
    allowed: `${kind.allowed}, or off`,
    completions: { values: ['off'], files: false },
    parse: (text) => (text === 'off' ? text : kind.parse(text)),
  };
}

export function choice<const T extends string>(...values: readonly T[]): Kind<T> {
  return {
    allowed: `one of ${values.join(', ')}`,
    completions: { values, files: false },
    parse: (text) => values.find((value) => value === text),
  };
}

export const flag: Kind<boolean> = {
  allowed: 'true or false',
  completions: { values: ['true', 'false'], files: false },
  parse: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
};

/** `sun_path` holds 108 bytes, the last of them a NUL. Source: unix(7). */
export const maxSocketPathBytes = 107;

/**
 * An absolute path, out of the notations the kubelet, crictl and gRPC use for a unix socket. Source: gRPC naming
 * (doc/naming.md).
 *
 * A relative one is refused: under systemd the working directory is `/`, and what was tried in a shell would be another socket there.
 */
export const endpoint: Kind<string> = {
  allowed:
    `the absolute path of a unix socket, of at most ${maxSocketPathBytes} bytes, as unix:///run/x.sock, unix:/run/x.sock or ` +
    '/run/x.sock',
  completions: someFile,
  parse(text) {
    const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:/.exec(text)?.[0] ?? '';
    const rest = text.slice(scheme.length);
    if (scheme !== '' && scheme !== 'unix:') return undefined;
    if (!rest.startsWith('/') || rest.includes('\0')) return undefined;
    if (scheme !== '' && rest.startsWith('//') && !rest.startsWith('///')) return undefined;
    const path = resolve(rest);
    return Buffer.byteLength(path) <= maxSocketPathBytes ? path : undefined;
  },
};

/**
 * Permission bits. The leading 0 is asked for because without it a number out of a JSON file (decimal 432 is octal 0660)
 * would pass for another mode.
 */
export const fileMode: Kind<number> = {
  allowed: 'octal permission bits with a leading 0, like 0660',
  parse: (text) => (/^0[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined),
};

/** Where a TCP server listens; an empty `host` is every address of the machine. */
export const address: Kind<{ readonly host: string; readonly port: number }> = {
  allowed: 'ADDR:PORT, like 127.0.0.1:9090, [::1]:9090, or :9090 for every address',
  parse(text) {
    const [, bracketed, plain = '', digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
    const port = Number(digits);
    if (!(port >= 1 && port <= 65_535)) return undefined;
    if (bracketed !== undefined) return isIPv6(bracketed) ? Object.freeze({ host: bracketed, port }) : undefined;
    const isName = /^(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*$/.test(plain);
    return plain === '' || isIPv4(plain) || isName ? Object.freeze({ host: plain, port }) : undefined;
  },
};

const tracesPath = '/v1/traces';

/**
 * Where an OTLP/HTTP collector takes traces; the path may be left out. Source: OpenTelemetry, "OTLP Exporter Configuration".
 *
 * Name and password are refused: the address is logged.
 */
export const collector: Kind<string> = {
  allowed: 'the http or https address of a collector, like http://127.0.0.1:4318 or http://127.0.0.1:4318/v1/traces',
  parse(text) {
    if (!URL.canParse(text) || !/^https?:\/\//i.test(text)) return undefined;
    const { origin, pathname, username, password, search, hash } = new URL(text);
    if (`${username}${password}${search}${hash}` !== '') return undefined;
    const base = pathname.replace(/\/+$/, '');
    return `${origin}${base.endsWith(tracesPath) ? base : `${base}${tracesPath}`}`;
  },
};

/** The name of an annotation. Source: Kubernetes, "Labels and Selectors", qualified names. */
export const annotationName: Kind<string> = {
  allowed: 'annotation names',
  parse: (text) => (/^(?:[a-z0-9.-]{1,253}\/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?$/.test(text) ? text : undefined),
};

/** A directory that need not exist yet. */
export const directory: Kind<string> = {
  allowed: 'the absolute path of a directory',
  completions: someFile,
  parse: (text) => (text.startsWith('/') && !text.includes('\0') ? resolve(text) : undefined),
};

/** A group of the machine. Source: groupadd(8). */
export const group: Kind<string> = {
  allowed: 'the name or number of a group',
  parse: (text) => (/^(?:\d{1,10}|[a-z_][a-z0-9_-]{0,31})$/i.test(text) ? text : undefined),
};

/** What Kubernetes calls a DNS label: names of namespaces and of runtime handlers are ones. Source: RFC 1123. */
const dnsLabel = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

export const namespace: Kind<string> = {
  allowed: 'names of namespaces',
  parse: (text) => (dnsLabel.test(text) ? text : undefined),
};

export const handlerLimit: Kind<HandlerLimit> = {
  allowed: 'HANDLER=N with N from 1 to 10000, like kata=4',
  parse(text) {
    const [handler = '', digits = '', ...rest] = text.split('=');
    const limit = count(1, 10_000).parse(digits);
    if (limit === undefined || rest.length > 0 || !dnsLabel.test(handler)) return undefined;
    return Object.freeze({ handler, limit });
  },
};

/** Values with commas between them; the empty text is the empty list. */
export function listOf<T>(kind: Kind<T>): Kind<readonly T[]> {
  return {
    allowed: `${kind.allowed}, with commas between them`,
    parse(text) {
      const values = text === '' ? [] : text.split(',').map((part) => kind.parse(part.trim()));
      return values.every((value) => value !== undefined) ? Object.freeze(values) : undefined;
    },
  };
}

/** A list in which no two values say something about the same thing. */
export function distinctBy<T>(keyOf: (value: T) => string, kind: Kind<readonly T[]>): Kind<readonly T[]> {
  return {
    allowed: `${kind.allowed}, each only once`,
    parse(text) {
      const values = kind.parse(text);
      return values && new Set(values.map(keyOf)).size === values.length ? values : undefined;
    },
  };
}
