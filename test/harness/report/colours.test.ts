import t from 'tap';
import { style } from '../../../src/harness/report/page-style.js';

/** How linear RGB looks to those without one kind of cone, after Machado, Oliveira and Fernandes (2009), severity 1. */
const vision = {
  'all cones': [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

/** The bars of each lane. What waits is a thin line, what is queued or thrown away is hatched, and curves are dashed. */
const neighbours = [
  ['sandbox', 'container', 'start', 'running'],
  ['sandbox', 'container', 'start', 'held'],
];

/** Distance in CIELAB that is seen at a glance in small bars; 2.3 is what is seen at all. */
const least = 10;

function times(matrix: readonly number[], [a = 0, b = 0, c = 0]: readonly number[]): number[] {
  return [0, 3, 6].map((at) => (matrix[at] ?? 0) * a + (matrix[at + 1] ?? 0) * b + (matrix[at + 2] ?? 0) * c);
}

/** CIELAB, white point D65, of a colour such as `#0a66c2`, as it is seen. */
function lab(colour: string, seen: readonly number[]): number[] {
  const linear = [1, 3, 5]
    .map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  const rgb = times(seen, linear).map((part) => Math.min(1, Math.max(0, part)));
  const xyz = times([0.4124, 0.3576, 0.1805, 0.2126, 0.7152, 0.0722, 0.0193, 0.1192, 0.9505], rgb);
  const [x = 0, y = 0, z = 0] = [0.95047, 1, 1.08883]
    .map((white, at) => (xyz[at] ?? 0) / white)
    .map((part) => (part > 0.008856 ? Math.cbrt(part) : 7.787 * part + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

for (const [at, scheme] of ['light', 'dark'].entries()) {
  const colours = Object.fromEntries(
    [...(style.split(':root')[at + 1] ?? '').matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [
      name,
      value,
    ]),
  );
  for (const [kind, seen] of Object.entries(vision)) {
    t.test(`states can be told apart in ${scheme} mode with ${kind}`, async (t) => {
      for (const names of neighbours) {
        for (const [index, one] of names.entries()) {
          for (const other of names.slice(index + 1)) {
            const [a, b] = [lab(colours[one] ?? '', seen), lab(colours[other] ?? '', seen)];
            const distance = Math.hypot(...a.map((part, axis) => part - (b[axis] ?? 0)));
            t.ok(distance >= least, `${one} and ${other}: ${distance.toFixed(1)}`);
          }
        }
      }
    });
  }
}
