/** Colours differ in lightness as well as in hue, after Okabe and Ito; no two things are told apart by colour alone. */
export const style = `
:root {
  --page: #fff; --raised: #f5f7f9; --line: #dfe4ea; --text: #14191f; --quiet: #56606c;
  --sandbox: #123f8c; --container: #1d86c4; --start: #c4458a; --running: #178a63; --waiting: #717b87; --held: #a87400;
  --bad: #c8320a; --good: #0b7a55;
  --arm-0: #c8450a; --arm-1: #8a6d00; --arm-2: #8d3f9f; --arm-3: #0a66c2; --arm-4: #0b7a55; --arm-5: #4a5560;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1319; --raised: #171e26; --line: #2b3541; --text: #e8edf2; --quiet: #9da9b6;
    --sandbox: #4a7fe0; --container: #5fb8ee; --start: #f49ac8; --running: #2fae83; --waiting: #7f8b99; --held: #f0bd3a;
    --bad: #ff7a4d; --good: #4fcf9f;
    --arm-0: #ff8552; --arm-1: #e0bb3c; --arm-2: #d795e6; --arm-3: #64adff; --arm-4: #4fcf9f; --arm-5: #b4bfcb;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 28px 32px 48px; max-width: 1560px; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1, h2, h3, p, dl, dd, ol, ul { margin: 0; padding: 0; }
ol, ul { list-style: none; }
svg { display: block; overflow: visible; width: 100%; height: 100%; }
small { font-size: 12px; color: var(--quiet); font-weight: 400; }
:focus-visible { outline: 2px solid var(--arm-3); outline-offset: 1px; }
.definitions { position: absolute; width: 0; height: 0; }

header { display: grid; gap: 2px; }
.kicker { color: var(--quiet); font-weight: 600; letter-spacing: .06em; text-transform: uppercase; font-size: 12px; }
h1 { font-size: 32px; line-height: 1.15; letter-spacing: -.02em; }
header > p:not(.kicker, .headline) { max-width: 75ch; color: var(--quiet); }
.headline { font-size: 18px; font-weight: 600; line-height: 1.35; max-width: 90ch; margin: 4px 0; }
header dl { display: flex; flex-wrap: wrap; gap: 4px 24px; margin-top: 8px; }
header dl div { display: flex; gap: 6px; }
dt { color: var(--quiet); }
header dd { font-weight: 600; }
section { margin-top: 28px; }
h2 { font-size: 19px; margin-bottom: 10px; letter-spacing: -.01em; }

.overview { display: grid; grid-template-columns: minmax(0, 1fr) 330px; gap: 16px 36px; }
.curves { display: grid; grid-template: 290px 20px / 34px minmax(0, 1fr); padding-top: 6px; }
.curves .times { grid-column: 2; }
text { fill: var(--quiet); font-size: 12px; }
line { stroke: var(--line); }
.curve { fill: none; stroke-width: 2.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
${[0, 1, 2, 3, 4, 5].map((at) => `.arm-${at} { stroke: var(--arm-${at}); fill: var(--arm-${at}); }`).join('\n')}
.curve { fill: none; }
.arm-1.curve { stroke-dasharray: 9 3; } .arm-2.curve { stroke-dasharray: 3 3; }
.arm-4.curve { stroke-dasharray: 12 3 3 3; } .arm-5.curve { stroke-dasharray: 6 6; }
.arms { display: grid; gap: 12px; align-content: start; }
.arms li { display: grid; grid-template-columns: 24px 1fr; gap: 10px; line-height: 1.35; }
.swatch { display: inline-block; width: 22px; height: 12px; }
.arms .swatch { margin-top: 4px; }
.good { color: var(--good); } .bad { color: var(--bad); }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; min-width: calc(150px + var(--arms) * 112px); }
th, td { padding: 4px 0 4px 12px; text-align: right; border-bottom: 1px solid var(--line); }
th[scope=row] { text-align: left; padding-left: 0; font-weight: 500; }
thead th { vertical-align: bottom; font-weight: 600; padding-right: 3.6em; }
thead td { width: 30%; }
td { white-space: nowrap; }
th .swatch { display: block; margin-left: auto; }
td small { display: inline-block; width: 3.6em; padding-left: 6px; text-align: left; }
.goes-on { stroke: none; font-size: 15px; }
details { margin-top: 6px; }
summary { cursor: pointer; padding: 2px 0; color: var(--quiet); font-size: 14px; }
details thead { visibility: collapse; }
.note { margin-top: 8px; font-size: 13px; color: var(--quiet); }

.legend { display: grid; gap: 4px; font-size: 13px; margin-bottom: 10px; }
.legend div { position: relative; display: flex; flex-wrap: wrap; gap: 2px 16px; padding-left: 226px; }
.legend dt { position: absolute; left: 0; }
.legend dd { display: flex; align-items: center; gap: 6px; }
.sample { width: 20px; height: 10px; }
.sample:has(.waiting) { height: 2px; }
.mark { width: 14px; height: 14px; }
.bar { display: flex; align-items: end; justify-content: space-between; gap: 16px; border-bottom: 1px solid var(--line); }
[role=tablist] { display: flex; flex-wrap: wrap; gap: 2px; }
.bar label { display: flex; align-items: center; gap: 6px; padding: 8px 0; font-size: 13px; flex: none; }
[role=tab] {
  display: flex; align-items: center; gap: 8px; padding: 7px 14px; border: 0; border-bottom: 3px solid transparent; margin-bottom: -1px;
  background: none; color: var(--quiet); font: inherit; cursor: pointer;
}
[role=tab][aria-selected=true] { color: var(--text); font-weight: 600; border-bottom-color: currentColor; }
.panels { display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 28px; }
.rows { position: relative; --name: clamp(96px, 13vw, 172px); font-size: min(13px, calc(var(--row) - 1px)); line-height: var(--row); }
.axis { position: sticky; top: 0; z-index: 1; padding: 6px 6px 0 calc(var(--name) + 6px); height: 26px; background: var(--page); }
.grid { position: absolute; inset: 26px 0 0 0; padding: 0 6px 0 calc(var(--name) + 6px); }
.grid rect { fill: var(--raised); }
.shared, section:has(#shared:checked) .fit { display: none; }
section:has(#shared:checked) .shared { display: block; }
.row { position: relative; display: flex; height: var(--row); cursor: default; scroll-margin: 30px 0; }
.row.told { background: color-mix(in srgb, var(--arm-3) 12%, transparent); }
.name { width: var(--name); flex: none; padding-right: 8px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.track { flex: 1; min-width: 0; padding: 0 6px; overflow: hidden; }
.track svg { width: var(--fit); }
section:has(#shared:checked) .track svg { width: 100%; }
.podSandbox { fill: var(--sandbox); } .container { fill: var(--container); } .start { fill: var(--start); }
.running { fill: var(--running); } .done { fill: var(--running); fill-opacity: .5; } .waiting { fill: var(--waiting); } .held { fill: var(--held); }
.queued { fill: url(#dots); } .dot { fill: var(--waiting); } .ghost { fill: var(--page); }
.podSandbox.thrown-away { fill: url(#lost-podSandbox); } .container.thrown-away { fill: url(#lost-container); }
.start.thrown-away { fill: url(#lost-start); }
.glyph { fill: none; stroke-width: 2; }
.halo { stroke: var(--page); stroke-width: 4.5; }
.deadline-passed { stroke: var(--bad); stroke-width: 2.6; } .error { fill: var(--bad); }
.joined { stroke: var(--text); fill: var(--page); } .replayed, .adopted { fill: var(--text); } .deleted { stroke: var(--text); stroke-width: 3; }
aside { position: sticky; top: 12px; align-self: start; margin-top: 14px; max-height: calc(100vh - 24px); overflow-y: auto; font-size: 13px; }
aside h3 { font-size: 15px; }
aside li { display: grid; grid-template-columns: 56px 1fr; gap: 8px; padding: 2px 0; border-top: 1px solid var(--line); }
aside time { text-align: right; color: var(--quiet); }
aside i { font-style: normal; color: var(--quiet); }
aside li svg { display: inline-block; width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px; }

@media (max-width: 1050px) {
  body { padding: 20px 16px; }
  .overview, .panels { grid-template-columns: minmax(0, 1fr); }
  aside { top: auto; bottom: 0; max-height: 34vh; padding: 8px 0; background: var(--page); border-top: 2px solid var(--line); }
  th, td { padding-left: 6px; font-size: 14px; }
  thead td { width: 22%; }
  thead th { padding-right: 0; }
  th small { display: none; }
  .legend div { padding-left: 0; }
  .legend dt { position: static; width: 100%; }
  .panels { gap: 8px; }
  .row { scroll-margin-bottom: 36vh; }
}
`;
