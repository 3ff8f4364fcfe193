/** What a check finds, and how it is shown: a line each, and below it what to do. */
export interface Finding {
  readonly group: 'runtime' | 'holdfast' | 'kubelet' | 'node';
  /** Stays the same, whatever is found. */
  readonly name: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly text: string;
  /** What to do; always there unless it is ok. */
  readonly remedy?: string;
}

/** What one check has found. */
export type Found = Omit<Finding, 'group' | 'name'>;

export const ok = (text: string): Found => ({ level: 'ok', text });
export const warn = (text: string, remedy: string): Found => ({ level: 'warn', text, remedy });
export const fail = (text: string, remedy: string): Found => ({ level: 'fail', text, remedy });

/** What fails where another check has found the reason for it: not said, and as good a reason for others. */
export const consequence = 'consequence';

const signs = { ok: '√', warn: '‼', fail: '×' } as const;

/** @param findings In the order of their groups. */
export function shownFindings(findings: readonly Finding[]): string {
  const lines: string[] = [];
  let group = '';
  for (const finding of findings) {
    if (finding.group !== group) {
      group = finding.group;
      lines.push(...(lines.length > 0 ? [''] : []), group, '-'.repeat(group.length));
    }
    lines.push(`${signs[finding.level]} ${finding.text}`);
    if (finding.remedy !== undefined) lines.push(`    → ${finding.remedy}`);
  }
  const [fails, warns] = (['fail', 'warn'] as const).map((level) => findings.filter((f) => f.level === level).length);
  return `${lines.join('\n')}\n\n${verdict(fails ?? 0, warns ?? 0)}\n`;
}

function verdict(fails: number, warns: number): string {
  if (fails > 0) return `${signs.fail} ${fails} failed, ${warns} to look at`;
  return warns > 0 ? `${signs.warn} nothing failed, ${warns} to look at` : `${signs.ok} all is well`;
}
