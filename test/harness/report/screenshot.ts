/**
 * A picture of a report: `npm run screenshot -- report.html report.png [--width 1280] [--height 800] [--arm holdfast] [--dark]
 * [--whole]`. Needs Chromium.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { find } from '../../e2e/support/programs.js';
import { withPage } from '../../support/browser.js';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    width: { type: 'string', default: '1280' },
    height: { type: 'string', default: '800' },
    arm: { type: 'string' },
    /** The part of the page to begin at, e.g. `#timelines`. */
    at: { type: 'string' },
    dark: { type: 'boolean', default: false },
    whole: { type: 'boolean', default: false },
  },
});
const [page, picture] = positionals;
const chromium = find('chromium');
if (page === undefined || picture === undefined) throw new Error('needs a report and the name of the picture');
if (chromium === undefined) throw new Error('needs chromium');

const { width, height, arm, at, dark, whole } = values;
await withPage(chromium, async ({ open, evaluate, screenshot }) => {
  await open(page, { width: Number(width), height: Number(height), scheme: dark ? 'dark' : 'light', scale: 2 });
  if (arm !== undefined) {
    await evaluate(
      `[...document.querySelectorAll('[role=tab]')].find((tab) => tab.textContent === ${JSON.stringify(arm)}).click()`,
    );
  }
  if (at !== undefined) await evaluate(`document.querySelector(${JSON.stringify(at)}).scrollIntoView()`);
  writeFileSync(picture, await screenshot(whole));
});
