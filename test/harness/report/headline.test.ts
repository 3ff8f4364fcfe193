import t from 'tap';
import { headline } from '../../../src/harness/report/headline.js';
import { arm, report, stuck, timeline } from './reports.js';

const straight = { title: 'straight to containerd' };
const waiting = timeline('web-0', { calls: [{ fromMs: 0, toMs: 8_000, state: 'waiting' }] });
const none = { ...stuck, timelines: [waiting, waiting] };
const after = (all: number) => ({ runningMs: { p50: 1_000, p95: 2_000, all } });

for (const [what, arms, said] of [
  [
    'all ran through Holdfast, none without',
    [arm('direct', { ...none, ...straight }), arm('holdfast', after(11_700))],
    '2 of 2 pods ran through Holdfast after 11.7 s; straight to containerd none did.',
  ],
  [
    'all ran through Holdfast, some without',
    [arm('direct', { ...stuck, ...straight }), arm('holdfast')],
    '2 of 2 pods ran through Holdfast after 4.00 s; straight to containerd 1 of 2 did within 8.00 s.',
  ],
  [
    'all ran both ways, through Holdfast sooner',
    [arm('direct', { ...straight, ...after(7_000) }), arm('holdfast')],
    '2 of 2 pods ran through Holdfast after 4.00 s; straight to containerd all did after 7.00 s, 3.00 s later.',
  ],
  [
    'all ran both ways, through Holdfast later',
    [arm('direct', { ...straight, ...after(3_500) }), arm('holdfast')],
    '2 of 2 pods ran through Holdfast after 4.00 s; straight to containerd all did after 3.50 s, 0.50 s sooner.',
  ],
  [
    'all ran both ways at the same time',
    [arm('direct', straight), arm('holdfast')],
    '2 of 2 pods ran through Holdfast after 4.00 s; straight to containerd all did after 4.00 s.',
  ],
  [
    'all ran without Holdfast alone',
    [arm('direct', straight), arm('holdfast', stuck)],
    '1 of 2 pods ran through Holdfast within 8.00 s; straight to containerd all did after 4.00 s.',
  ],
  [
    'nothing ran',
    [arm('direct', { ...none, ...straight }), arm('holdfast', none)],
    'None of 2 pods ran through Holdfast within 8.00 s; straight to containerd none did.',
  ],
  [
    'more than two arms',
    [arm('crio-remove', none), arm('containerd', none), arm('crio-store', after(9_000)), arm('holdfast')],
    '2 of 2 pods ran through Holdfast after 4.00 s; with crio-store all did after 9.00 s, 5.00 s later; ' +
      'with crio-remove and with containerd none did.',
  ],
  [
    'no Holdfast at all: the best comes first',
    [arm('direct', { ...none, ...straight }), arm('crio-store')],
    '2 of 2 pods ran with crio-store after 4.00 s; straight to containerd none did.',
  ],
  ['one arm alone', [arm('holdfast')], '2 of 2 pods ran through Holdfast after 4.00 s.'],
  [
    'pods that hang',
    [arm('holdfast', { neverRun: 1 })],
    '1 of 1 pods that do not hang ran through Holdfast after 4.00 s.',
  ],
] as const) {
  t.test(what, async (t) => t.equal(headline(report(arms)), said));
}

t.test('a deleted pod is not missed', async (t) => {
  const gone = timeline('web-1', { calls: [], marks: [{ atMs: 3_000, kind: 'deleted', text: 'by its owner' }] });
  t.equal(
    headline(report([arm('holdfast', { timelines: [timeline('web-0'), gone] })])),
    '1 of 1 pods ran through Holdfast after 4.00 s.',
  );
});

t.test('of several repeats it says so, and never that all ran where that was not so in each', async (t) => {
  t.equal(
    headline(report([arm('holdfast')], { repeats: 3 })),
    '2 of 2 pods ran through Holdfast after 4.00 s, by the medians of 3 repeats.',
  );
  t.match(
    headline(report([arm('holdfast', { converged: false })], { repeats: 3 })),
    /^1 of 2 pods ran .* within 8\.00 s/,
  );
});

t.test('without pods, or arms, there is nothing to say', async (t) => {
  t.equal(headline(report([])), '');
  t.equal(headline(report([arm('direct', { timelines: [] })])), '');
});
