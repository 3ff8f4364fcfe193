/** The picture of a bench run as a reader meets it: in a real browser, in both colour schemes, on wide and narrow screens. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { reportHtml } from '../../src/harness/report/html.js';
import type { ArmReport, Report } from '../../src/harness/report-data.js';
import { sampleReport } from '../harness/report/sample.js';
import { type Page, withPage } from '../support/browser.js';
import { find, missingPrograms, skipFor } from './support/programs.js';

const skip = skipFor(missingPrograms('chromium'));
const pods = 20;
const report = sampleReport({ pods });
const [screen, narrow] = [
  { width: 1280, height: 800 },
  { width: 800, height: 800 },
];

/** What is chosen, shown and told of. */
const state = `({
  tabs: [...document.querySelectorAll('[role=tab][aria-selected=true]')].map((tab) => tab.textContent),
  focused: document.activeElement.textContent,
  panels: [...document.querySelectorAll('[role=tabpanel]')].filter((panel) => panel.checkVisibility()).map((panel) => panel.id),
  rows: [...document.querySelectorAll('.row')].filter((row) => row.checkVisibility() && row.getBoundingClientRect().height > 9).length,
  told: document.querySelector('aside').innerText,
})`;
interface State {
  readonly tabs: string[];
  readonly focused: string;
  readonly panels: string[];
  readonly rows: number;
  readonly told: string;
}

/** Text that has less contrast with what is behind it than WCAG's 4.5, and lines and bars with less than its 3. */
const faint = `(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const over = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb
    .map((byte) => byte / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    const colours = [];
    let beneath;
    for (let at = element; at; at = at.parentElement) {
      colours.unshift(getComputedStyle(at).backgroundColor);
      if (at.matches('.track')) beneath = getComputedStyle(document.querySelector('.grid rect')).fill;
      if (at.matches('.row') && beneath) colours.unshift(beneath);
    }
    return colours;
  };
  const contrast = (element, colour) => {
    const [low, high] = [luminance(over(...behind(element))), luminance(over(...behind(element), colour))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let seen = 0;
  const check = (element, colour, least) => {
    seen++;
    const value = contrast(element, colour);
    if (!(value >= least)) found.push(element.outerHTML.slice(0, 100) + ' ' + value.toFixed(2));
  };
  for (const element of document.body.querySelectorAll('*')) {
    if (!element.checkVisibility() || element.closest('defs')) continue;
    const style = getComputedStyle(element);
    if ([...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ''))
      check(element, element instanceof SVGElement ? style.fill : style.color, 4.5);
    if (element.matches('path.curve')) check(element, style.stroke, 3);
    if (element.matches('.track rect:not(.thrown-away, .queued)')) check(element, style.fill, 3);
  }
  return { found, seen };
})()`;

const widths = '({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth })';

async function read(t: Test, use: (page: Page, file: string) => Promise<void>, shown: Report = report): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'report-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'report.html');
  writeFileSync(file, reportHtml(shown));
  await withPage(find('chromium') ?? 'chromium', async (page) => {
    await use(page, file);
    t.strictSame(page.complaints, [], 'no console error');
    t.ok(page.requests.length > 0);
    for (const request of page.requests) t.equal(request, `file://${file}`, 'nothing else is asked for');
  });
}

t.test(
  'a row for each pod, arms switched by click and by key, rows told by pointer and by key',
  { skip },
  async (t) => {
    await read(t, async (page, file) => {
      await page.open(file, { ...screen, scheme: 'light' });
      const names = report.arms.map(({ name }) => name);
      const first = await page.evaluate<State>(state);
      t.match(first, { tabs: [names[0]], panels: ['panel-0'], rows: pods });
      t.match(first.told, /^web-0\n/);

      await page.click('#tab-2');
      t.match(await page.evaluate(state), { tabs: [names[2]], panels: ['panel-2'], rows: pods });
      for (const [key, at] of [
        ['ArrowRight', 3],
        ['End', 4],
        ['ArrowRight', 0],
        ['ArrowLeft', 4],
        ['Home', 0],
      ] as const) {
        await page.press(key);
        const name = names[at];
        t.match(await page.evaluate(state), { tabs: [name], focused: name, panels: [`panel-${at}`], rows: pods }, key);
      }

      await page.press('Tab');
      await page.press('Tab');
      t.match((await page.evaluate<State>(state)).focused, /^web-0/, 'the box is between the arms and the rows');
      await page.press('ArrowDown');
      const second = await page.evaluate<State>(state);
      t.match(second.focused, /^checkout-0/);
      t.match(
        second.told,
        /^checkout-0\n[\s\S]*RunPodSandbox \(8\.00 s\)[\s\S]*deadline passed context deadline exceeded/,
      );
      await page.click('#panel-0 .row:nth-child(5) .track');
      t.match((await page.evaluate<State>(state)).told, /^cache-0\n/);
    });
  },
);

t.test('an arm takes the whole width, or its part of the time of all', { skip }, async (t) => {
  await read(t, async (page, file) => {
    await page.open(file, { ...screen, scheme: 'light' });
    await page.click('#tab-4');
    const reach = `(() => {
      const track = document.querySelector('#panel-4 .track').getBoundingClientRect();
      const ends = [...document.querySelectorAll('#panel-4 .running')].map((bar) => bar.getBoundingClientRect().right);
      return (Math.max(...ends) - track.left) / track.width;
    })()`;
    t.ok((await page.evaluate<number>(reach)) > 0.97);
    await page.click('#shared');
    const share = (report.arms[4]?.durationMs ?? 0) / 60_000;
    t.ok(Math.abs((await page.evaluate<number>(reach)) - share) < 0.02, 'as long as it took, on the scale of all');
  });
});

for (const scheme of ['light', 'dark'] as const) {
  t.test(`it can be read in ${scheme} mode and does not overflow`, { skip }, async (t) => {
    await read(t, async (page, file) => {
      for (const view of [screen, narrow]) {
        await page.open(file, { ...view, scheme });
        t.strictSame(await page.evaluate(widths), { scroll: view.width, client: view.width });
        for (let at = 0; at < report.arms.length; at++) {
          await page.click(`#tab-${at}`);
          const { found, seen } = await page.evaluate<{ found: string[]; seen: number }>(faint);
          t.ok(seen > 100);
          t.strictSame(found, [], `contrast of arm ${at} at ${view.width}`);
        }
      }
      const [lightness] = await page.evaluate<string[]>('[getComputedStyle(document.body).backgroundColor]');
      t.equal(lightness === 'rgb(255, 255, 255)', scheme === 'light');
    });
  });
}

t.test('many pods, many arms and long names from outside break nothing', { skip }, async (t) => {
  const many = sampleReport({ pods: 200 });
  const evil = `<script>throw 1</script>${'x'.repeat(200)}`;
  const few = many.arms.map((arm) => ({ ...arm, timelines: arm.timelines.slice(0, 5) }));
  const arms = few.flatMap((arm) => [arm, { ...arm, name: `${arm.name}${evil}`, title: evil }]);
  const [first, ...others] = many.arms[0]?.timelines ?? [];
  const marked = { pod: evil, calls: [], work: [], ...first, marks: [{ atMs: 1, kind: 'error', text: evil }] } as const;
  arms[0] = { ...(many.arms[0] as ArmReport), timelines: [{ ...marked, pod: evil }, ...others] };
  const shown = { ...many, arms, scenario: evil, description: evil };
  await read(
    t,
    async (page, file) => {
      for (const view of [screen, narrow]) {
        await page.open(file, { ...view, scheme: 'light' });
        t.strictSame(await page.evaluate(widths), { scroll: view.width, client: view.width });
        const { rows, told } = await page.evaluate<State>(state);
        t.equal(rows, 200);
        t.ok(told.startsWith(evil), 'told as it is');
        t.match(told, `error ${evil}`);
        await page.click('.row:nth-child(150) .track');
        for (const key of ['ArrowUp', 'ArrowDown']) {
          let covered = 0;
          // From the middle of the screen to beyond its edge, and back as far again.
          for (let at = 0; at < 60; at++) {
            await page.press(key);
            covered += await page.evaluate<number>(`(() => {
              const { left, top, height } = document.activeElement.getBoundingClientRect();
              return +(document.elementFromPoint(left + 5, top + height / 2)?.closest('.row') !== document.activeElement);
            })()`);
          }
          t.equal(covered, 0, `the row that ${key} leads to is in view at ${view.width}`);
        }
      }
    },
    shown,
  );
});
