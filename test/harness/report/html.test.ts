import { createHash } from 'node:crypto';
import t from 'tap';
import { reportHtml } from '../../../src/harness/report/html.js';
import { script } from '../../../src/harness/report/page-script.js';
import { arm, report, stuck, timeline } from './reports.js';

/** What stands between the first `from` and the `to` after it. */
function between(text: string, from: string, to: string): string {
  const begin = text.indexOf(from) + from.length;
  return text.slice(begin, text.indexOf(to, begin));
}

/** As a reader sees it. */
function visible(html: string): string {
  return html
    .replace(/<[^>]*>/g, ' ')
    .replace(/&#(\d+);/g, (_, code) => String.fromCharCode(code))
    .replace(/\s+/g, ' ');
}

/** The text of the row of the table that begins with `name`. */
function figure(html: string, name: string): string {
  return visible(between(html, `<th scope="row">${name} `, '</tr>')).trim();
}

t.test('the header says what was run', async (t) => {
  const html = reportHtml(report([arm('direct')], { runtime: 'containerd 1.6.20' }));
  t.match(
    visible(between(html, '<header>', '</header>')),
    /slow-cni 2 of 2 pods ran .* A slow network pods 2 seed 5 repeats 1 runtime containerd 1\.6\.20/,
  );
});

t.test('figures stand beside their ratio to direct', async (t) => {
  const html = reportHtml(
    report([
      arm('direct', { runningMs: { p50: 8_000, p95: 9_000, all: null }, creationsPerPod: 2.5 }),
      arm('holdfast', { deadlineErrors: 3, holdfast: { cpuMs: 1_500, rssBytes: 60 * 2 ** 20 } }),
    ]),
  );
  t.match(figure(html, '50 % of pods ran after'), /8\.00 s\s+2\.00 s 0\.25×$/);
  t.match(figure(html, 'creations per pod'), /2\.50\s+1\.00 0\.40×$/);
  t.match(figure(html, 'all pods ran after'), /—\s+4\.00 s$/, 'no ratio to what never came');
  t.match(figure(html, 'deadline errors'), / 0\s+3$/, 'no ratio to 0');
  t.match(figure(html, 'CPU of Holdfast'), /—\s+1\.50 s$/);
  t.match(figure(html, 'memory of Holdfast'), /—\s+60 MiB$/);
});

t.test('without an arm direct there is no ratio', async (t) => {
  const html = reportHtml(report([arm('crio-store'), arm('holdfast')]));
  t.match(figure(html, '50 % of pods ran after'), /2\.00 s\s+2\.00 s$/);
});

t.test('what is 0 in each arm is folded, what is 0 in one of them is not', async (t) => {
  const html = reportHtml(report([arm('direct', { restarts: 2 }), arm('holdfast')]));
  const [shown = '', folded = ''] = html.split('<details>');
  t.match(shown, '<th scope="row">restarts ');
  t.notMatch(shown, '<th scope="row">duplicates ');
  t.match(folded, '<th scope="row">duplicates ');
  t.match(
    visible(between(folded, '<summary>', '</summary>')),
    '0 in every arm: deadline errors, "name reserved" errors, other errors, highest attempt, duplicates, left over',
  );
  const rough = { deadlineErrors: 1, reservedErrors: 1, otherErrors: 1, restarts: 1, highestAttempt: 1 };
  t.notMatch(reportHtml(report([arm('direct', { ...rough, duplicatesAlive: 1, leftOvers: 1 })])), '<details>');
});

t.test('it opens with one sentence', async (t) => {
  const html = reportHtml(report([arm('direct', stuck), arm('holdfast')]));
  t.match(
    visible(between(html, '<header>', '</header>')),
    /2 of 2 pods ran through Holdfast after 4\.00 s; with direct 1 of 2/,
  );
});

t.test('curves end soon after their last change, where they would go on for long', async (t) => {
  const calm = {
    durationMs: 60_000,
    timelines: [timeline('web-0', { calls: [{ fromMs: 0, toMs: 60_000, state: 'waiting' }] })],
  };
  const html = reportHtml(report([arm('direct', { ...stuck, ...calm }), arm('holdfast')]));
  t.match(html, 'viewBox="0 0 5000 2"', 'a quarter after 4 s');
  t.match(html, 'd="M0 2H5000"');
  t.match(html, /class="goes-on arm-0"[^>]*>▸<title>direct stays like this/);
  t.notMatch(
    reportHtml(report([arm('direct', { ...stuck, ...calm })])),
    /goes-on arm/,
    'where nothing changes at all, all is shown',
  );
});

t.test('an arm that never converged', async (t) => {
  const html = reportHtml(report([arm('direct', stuck)]));
  t.match(figure(html, 'all pods ran'), /no$/);
  t.match(figure(html, 'list calls, p99'), /—$/);
  t.match(
    visible(between(html, 'class="arms"', '</ul>')),
    /direct one of them 1 of 2 ran when the watch ended, after 8\.00 s/,
  );
});

t.test('a pod that was deleted is not missed', async (t) => {
  const gone = timeline('web-1', { calls: [], marks: [{ atMs: 3_000, kind: 'deleted', text: 'by its owner' }] });
  const html = reportHtml(report([arm('direct', { ...stuck, timelines: [timeline('web-0'), gone] })]));
  t.match(visible(between(html, 'class="arms"', '</ul>')), /1 of 1 ran when the watch ended/);
});

t.test('a pod that hangs for ever is not missed, and that there are such is said', async (t) => {
  const ofArms = (...arms: Parameters<typeof report>[0]) =>
    visible(between(reportHtml(report(arms)), 'class="arms"', '</ul>'));
  t.match(ofArms(arm('direct', { ...stuck, neverRun: 1 })), /1 of 1 ran when the watch ended/);
  t.match(ofArms(arm('direct', { neverRun: 1 })), /all 1 that can ran after 4\.00 s/);
  t.match(ofArms(arm('direct')), /all ran after 4\.00 s/);
  t.match(figure(reportHtml(report([arm('direct', { neverRun: 1 })])), 'pods not expected to run'), / 1$/);
});

t.test('a curve goes up when a pod runs and down when it no longer does', async (t) => {
  const short = timeline('web-1', { calls: [{ fromMs: 4_000, toMs: 6_000, state: 'running' }] });
  const html = reportHtml(report([arm('direct', { timelines: [timeline('web-0'), short] })]));
  t.match(html, 'viewBox="0 0 8000 2"');
  t.match(html, 'd="M0 2H2000V1H4000V0H6000V1H8000"', 'y goes down from 2, the number of pods');
});

t.test('a pod that has ended with success stays up in the curve, and is told apart from one that runs', async (t) => {
  const job = timeline('job-0', {
    calls: [
      { fromMs: 2_000, toMs: 3_000, state: 'running' },
      { fromMs: 3_000, toMs: 8_000, state: 'done' },
    ],
  });
  const html = reportHtml(report([arm('direct', { ...stuck, timelines: [job] })], { pods: 1 }));
  t.match(html, 'd="M0 1H2000V0H2500"', 'and nothing happens after that');
  t.match(visible(between(html, 'class="arms"', '</ul>')), /1 of 1 ran when the watch ended/);
  const row = between(html, 'aria-label="job-0: ended with success since 3.00 s"', '</svg>');
  t.match(row, /class="done" x="37.5%" y="[\d.]+" width="62.5%"/);
});

t.test('arms are laid out on the scale of the longest, and each is stretched to the whole width', async (t) => {
  const html = reportHtml(report([arm('direct', stuck), arm('holdfast', { durationMs: 4_000 })]));
  const [, direct = '', holdfast = ''] = html.split('role="tabpanel"');
  t.match(direct, '--fit:100%');
  t.match(holdfast, '--fit:200%');
  t.match(holdfast, /class="podSandbox" x="0%" y="[\d.]+" width="25%"/);
});

t.test('calls, work and marks are where their times are', async (t) => {
  const html = reportHtml(report([arm('direct', stuck)]));
  const row = between(html, 'aria-label="web-1: waiting to retry since 4.00 s, deadline passed 1 times"', '</svg>');
  t.match(row, /class="podSandbox" x="0%" y="[\d.]+" width="50%"/);
  t.match(row, /class="waiting" x="50%" y="[\d.]+" width="50%"/);
  t.match(row, /class="podSandbox thrown-away" x="0%" y="[\d.]+" width="52.5%"/);
  t.match(row, /href="#deadline-passed" x="50%"/);
});

t.test('the events of a pod are in the order of time', async (t) => {
  const html = reportHtml(report([arm('direct', stuck)]));
  const row = html.slice(html.indexOf('aria-label="web-1'));
  t.equal(
    visible(between(row, 'hidden>', '</ol>')).trim(),
    '0.00 s RunPodSandbox (4.00 s) 0.00 s pod sandbox being made (4.20 s), thrown away ' +
      '4.00 s deadline passed context deadline exceeded 4.00 s waiting to retry (4.00 s)',
  );
});

t.test('what comes from outside is text and never markup', async (t) => {
  const evil = `</script><script>alert('"&')</script><img src=x onerror=alert(1)>`;
  const marked = timeline(evil, { marks: [{ atMs: 1, kind: 'error', text: evil }] });
  const html = reportHtml(
    report([arm(evil, { title: evil, timelines: [marked] })], { scenario: evil, description: evil, runtime: evil }),
  );
  t.equal(html.split('<script').length, 2, 'one script, its own');
  t.notMatch(html, /<img/);
  t.notMatch(html, `alert('`);
  t.ok(visible(html).split(evil.replaceAll(/\s+/g, ' ')).length >= 9, 'and it is all there');
});

t.test('nothing is loaded, and only its own script may run', async (t) => {
  const html = reportHtml(report([arm('direct', stuck)]));
  const hash = createHash('sha256')
    .update(between(html, '<script>', '</script>'))
    .digest('base64');
  t.match(html, `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`);
  t.notMatch(html, /https?:|\bsrc=|<link|@import|url\([^#]/);
});

t.test('a report of no arms, or of an arm without pods and time, is a page too', async (t) => {
  for (const arms of [[], [arm('direct', { timelines: [], durationMs: 0 })]]) {
    const html = reportHtml(report(arms, { pods: 0 }));
    t.match(html, '</html>');
    t.notMatch(html.replace(script, ''), /NaN|Infinity|undefined/);
  }
});
