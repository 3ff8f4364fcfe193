import { createTraceState } from '@opentelemetry/api';
import t from 'tap';
import { sampledContext, withContext } from '../../src/tracing/trace-context.js';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';
const other = { traceId: '1'.repeat(32), spanId: '2'.repeat(16), traceFlags: 1 };

t.test('a sampled caller is followed', async (t) => {
  const context = sampledContext([
    ['x-client', 'kubelet'],
    ['traceparent', `00-${traceId}-${spanId}-03`],
    ['tracestate', 'a=1'],
    ['tracestate', 'b=2'],
  ]);
  t.match(context, { traceId, spanId, traceFlags: 1, isRemote: true });
  t.equal(context?.traceState?.serialize(), 'a=1,b=2');
  t.equal(sampledContext([['traceparent', `00-${traceId}-${spanId}-01`]])?.traceState, undefined);
  t.match(sampledContext([['traceparent', `cc-${traceId}-${spanId}-01-what-will-be`]]), { traceId, spanId });
});

for (const [what, ...values] of [
  ['none'],
  ['not sampled', `00-${traceId}-${spanId}-00`],
  ['two of them', `00-${traceId}-${spanId}-01`, `00-${traceId}-${spanId}-01`],
  ['no trace', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['no span', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['a version that there cannot be', `ff-${traceId}-${spanId}-01`],
  ['more than this version has', `00-${traceId}-${spanId}-01-more`],
  ['capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['cut short', `00-${traceId}-${spanId}`],
  ['nothing', ''],
]) {
  t.test(`nobody is followed: ${what}`, async (t) => {
    t.equal(sampledContext(values.map((value) => ['traceparent', value])), undefined);
  });
}

t.test('a call is put into another trace, and keeps what else travels with it', async (t) => {
  const metadata = [
    ['traceparent', `00-${traceId}-${spanId}-01`],
    ['baggage', 'k=v'],
    ['tracestate', 'a=1'],
    ['x-client', 'kubelet'],
  ] as const;
  const expected = ['traceparent', `00-${other.traceId}-${other.spanId}-01`];
  t.strictSame(withContext(metadata, other), [['baggage', 'k=v'], ['x-client', 'kubelet'], expected]);
  t.strictSame(withContext([], { ...other, traceState: createTraceState('c=3') }), [expected, ['tracestate', 'c=3']]);
});
