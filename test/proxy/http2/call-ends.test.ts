/** How observed calls end: what the runtime says of it is read along, and goes to the client as ever. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { Flag, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock } from '../../../src/proxy/http2/hpack.js';
import {
  data,
  fields,
  goAway,
  headers,
  message,
  RouterBench,
  request,
  reset,
  settings,
  settingsAck,
  windowUpdate,
} from './wire.js';

const head = { ':status': '200', 'content-type': 'application/grpc' };
const okTrailers = { 'grpc-status': '0', 'grpc-message': '' };
const notFound = { 'grpc-status': '5', 'grpc-message': 'no such sandbox' };
const last = Flag.endStream | Flag.endHeaders;

/** `grpc-status: 0` with incremental indexing (RFC 7541 section 6.2.1), and what then stands for it: entry 62. */
const indexedOk = Buffer.concat([Buffer.from([0x40, 11]), Buffer.from('grpc-status'), Buffer.from([1, 0x30])]);
const entry62 = Buffer.from([0xbe]);

function observed(streamId: number, path = '/observe/A'): Buffer {
  return Buffer.concat([request(streamId, path), data(streamId, message('the id'), true)]);
}

/** Past the SETTINGS, stream 1 asked for. */
async function asked(): Promise<RouterBench> {
  const bench = await RouterBench.started();
  await bench.client(observed(1));
  return bench;
}

/** The runtime has not acknowledged the client's SETTINGS: it may use its header table. */
async function unacknowledged(): Promise<RouterBench> {
  const bench = new RouterBench();
  await bench.client(settings());
  await bench.runtime(settings());
  return bench;
}

/** Its next call is read and ends well. */
async function goesOn(t: Test, bench: RouterBench): Promise<void> {
  bench.ends.length = 0;
  await bench.client(observed(99, '/observe/Next'));
  await bench.runtime(headers(99, head), headers(99, okTrailers, true));
  t.strictSame(bench.ends, ['/observe/Next succeeded']);
  t.strictSame(bench.violations, []);
}

t.test('a call that the runtime ends with OK has succeeded, which is told before the client has it', async (t) => {
  let gotBytes = 0;
  const bench: RouterBench = new RouterBench(
    {},
    {
      observe: () => (succeeded) => {
        t.ok(succeeded);
        gotBytes = bench.toClient.all.length;
      },
    },
  );
  await bench.start();
  await bench.client(observed(1));
  await bench.runtime(headers(1, head), data(1, message('')));
  t.equal(gotBytes, 0, 'not while it is under way');
  const before = bench.toClient.all.length;
  await bench.runtime(headers(1, okTrailers, true));
  t.ok(gotBytes > 0);
  t.ok(gotBytes <= before);
  t.ok(bench.toClient.all.length > before);
  t.equal(bench.router.activeStreams, 0);
});

const failures: Record<string, readonly Buffer[]> = {
  'trailers alone': [headers(1, { ...head, ...notFound }, true)],
  'trailers behind headers': [headers(1, head), headers(1, notFound, true)],
  'trailers behind a message': [headers(1, head), data(1, message('')), headers(1, notFound, true)],
  'trailers without a status': [headers(1, head), headers(1, { 'x-trail': '0' }, true)],
  'trailers with a status that is no number': [headers(1, head), headers(1, { 'grpc-status': 'OK' }, true)],
  'DATA without trailers': [headers(1, { ...head, ...okTrailers }), data(1, message(''), true)],
  RST_STREAM: [headers(1, head), data(1, message('')), reset(1, 2)],
  'RST_STREAM without an error': [reset(1, 0)],
  'GOAWAY that leaves it out': [goAway(0)],
};

t.test('a call whose answer ends without trailers has failed, though its client has more to say', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/observe/A'), data(1, message('the id')));
  await bench.runtime(headers(1, head), data(1, message(''), true));
  t.strictSame(bench.ends, ['/observe/A failed']);
});

t.test('a call during whose request the connection ends has failed', async (t) => {
  const ends: boolean[] = [];
  const observe = () => {
    bench.router.abandon();
    return (succeeded: boolean) => ends.push(succeeded);
  };
  const bench: RouterBench = new RouterBench({}, { observe });
  await bench.start();
  await bench.client(observed(1));
  t.strictSame(ends, [false]);
});

for (const [end, frames] of Object.entries(failures)) {
  t.test(`a call that the runtime ends with ${end} has failed`, async (t) => {
    const bench = await asked();
    await bench.runtime(...frames);
    t.strictSame(bench.ends, ['/observe/A failed']);
    bench.router.abandon();
    t.equal(bench.ends.length, 1, 'told once');
  });
}

t.test('a call whose answer is nothing but trailers with OK has succeeded', async (t) => {
  const bench = await asked();
  await bench.runtime(headers(1, { ...head, ...okTrailers }, true));
  t.strictSame(bench.ends, ['/observe/A succeeded']);
});

t.test('a call that its client resets has failed, whatever the runtime says later', async (t) => {
  const bench = await asked();
  await bench.runtime(headers(1, head));
  await bench.client(reset(1));
  t.strictSame(bench.ends, ['/observe/A failed']);
  await bench.runtime(headers(1, okTrailers, true));
  t.equal(bench.ends.length, 1);
  await goesOn(t, bench);
});

t.test('a reset of the client behind the trailers changes nothing', async (t) => {
  const bench = await asked();
  const trailers = headers(1, okTrailers, true);
  await bench.runtime(headers(1, head), trailers.subarray(0, 12));
  await bench.client(reset(1));
  t.strictSame(bench.ends, []);
  await bench.runtime(trailers.subarray(12));
  t.strictSame(bench.ends, ['/observe/A succeeded']);
});

t.test('a runtime that sends something else within a header block is at fault', async (t) => {
  const bench = await asked();
  bench.fromRuntime(
    Buffer.concat([frame(FrameType.headers, 0, 1, encodeLiteralBlock(fields(head))), data(1, message(''))]),
  );
  t.strictSame(bench.violations, ['upstream: a header block out of place']);
});

const losses: Record<string, (bench: RouterBench) => void> = {
  'both connections end': (bench) => bench.router.abandon(),
  'the connection of the runtime ends': (bench) => {
    if (!bench.router.runtimeEnded()) bench.router.abandon();
  },
  'the client is at fault': (bench) => {
    bench.fromClient(frame(FrameType.ping, 0, 0, Buffer.alloc(7)));
    t.strictSame(bench.violations.length, 1);
  },
  'the runtime is at fault': (bench) => bench.fromRuntime(frame(FrameType.ping, 0, 0, Buffer.alloc(7))),
};

for (const [how, lose] of Object.entries(losses)) {
  t.test(`a call is over without success where ${how}`, async (t) => {
    const block = encodeLiteralBlock(fields(okTrailers));
    const beginning = headers(1, head);
    const trailers = frame(FrameType.headers, Flag.endStream, 1, block);
    for (const arrived of [0, beginning.length, beginning.length + trailers.length]) {
      const bench = await asked();
      await bench.client(observed(3, '/observe/B'));
      await bench.runtime(Buffer.concat([beginning, trailers]).subarray(0, arrived));
      lose(bench);
      await bench.clock.advance(5000);
      t.strictSame(bench.ends.toSorted(), ['/observe/A failed', '/observe/B failed'], `${arrived} bytes of the answer`);
      bench.router.abandon();
      t.equal(bench.ends.length, 2, 'told once');
    }
  });
}

t.test('what the runtime has answered before its connection ended counts, though a taken call goes on', async (t) => {
  const bench = await asked();
  await bench.take(3);
  await bench.client(observed(5, '/observe/B'));
  await bench.runtime(headers(1, head), headers(1, okTrailers, true), headers(5, head));
  t.ok(bench.router.runtimeEnded());
  t.strictSame(bench.ends, ['/observe/A succeeded', '/observe/B failed']);
});

t.test(
  'trailers that wait for the window of the client, and are not whole when the runtime goes, are no success',
  async (t) => {
    const bench = await RouterBench.started();
    const other = await bench.take(1);
    await bench.client(observed(3), windowUpdate(1, 100_000));
    void other.send(Buffer.alloc(70_000));
    const trailers = encodeLiteralBlock(fields(okTrailers));
    await bench.runtime(headers(3, head), data(3, message('')), frame(FrameType.headers, Flag.endStream, 3, trailers));
    t.strictSame(bench.ends, []);
    t.ok(bench.router.runtimeEnded());
    t.strictSame(bench.ends, ['/observe/A failed']);
  },
);

t.test('a GOAWAY that serves a call leaves it to its answer', async (t) => {
  const bench = await asked();
  await bench.runtime(goAway(1), headers(1, head));
  t.strictSame(bench.ends, []);
  await bench.runtime(headers(1, okTrailers, true));
  t.strictSame(bench.ends, ['/observe/A succeeded']);
});

t.test('an answer that comes before the request is read is no success', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/observe/A'));
  await bench.runtime(headers(1, { ...head, ...okTrailers }, true));
  t.strictSame(bench.ends, []);
  await bench.client(data(1, message('the id')));
  t.strictSame(bench.ends, ['/observe/A failed']);
  bench.router.abandon();
  t.equal(bench.ends.length, 1);
});

t.test('nobody hears of the end of a request that was not read, nor of that of a report', async (t) => {
  const bench = await RouterBench.started({ observedRequestBytes: 10 });
  await bench.client(observed(1), observed(3, '/report/B'), request(5, '/report/C'), data(5, message('id'), true));
  for (const id of [1, 3, 5]) await bench.runtime(headers(id, head), headers(id, okTrailers, true));
  t.strictSame(bench.observed, ['/report/C id']);
  t.strictSame(bench.ends, []);
});

t.test('trailers are read in whatever frames they come', async (t) => {
  const block = encodeLiteralBlock(fields(okTrailers));
  const padded = Buffer.concat([Buffer.from([3]), block, Buffer.alloc(3, 0xff)]);
  const priority = Buffer.from([0, 0, 0, 0, 15]);
  const prioritized = Buffer.concat([Buffer.from([1]), priority, block.subarray(0, 5), Buffer.from([0xff])]);
  const shapes: Record<string, readonly Buffer[]> = {
    padded: [frame(FrameType.headers, last | Flag.padded, 1, padded)],
    continued: [
      frame(FrameType.headers, Flag.endStream, 1, Buffer.alloc(0)),
      frame(FrameType.continuation, 0, 1, block.subarray(0, 4)),
      frame(FrameType.continuation, 0, 1, Buffer.alloc(0)),
      frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(4)),
    ],
    'with priority, padded and continued': [
      frame(FrameType.headers, Flag.endStream | Flag.priority | Flag.padded, 1, prioritized),
      frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(5)),
    ],
    'behind CONTINUATION with a flag that means nothing there': [
      frame(FrameType.headers, 0, 1, encodeLiteralBlock(fields({ ...head, ...notFound }))),
      frame(FrameType.continuation, last, 1, Buffer.alloc(0)),
      headers(1, okTrailers, true),
    ],
  };
  for (const [shape, frames] of Object.entries(shapes)) {
    const bench = await asked();
    await bench.runtime(...frames);
    t.strictSame(bench.ends, ['/observe/A succeeded'], shape);
    await goesOn(t, bench);
  }
});

t.test('before the runtime has acknowledged that it is to use none, its header table is followed', async (t) => {
  const cases: Record<string, (bench: RouterBench) => Promise<void>> = {
    'a block of the same stream': (bench) => bench.runtime(frame(FrameType.headers, Flag.endHeaders, 1, indexedOk)),
    'a block of a passed stream, continued and padded': async (bench) => {
      const padded = Buffer.concat([Buffer.from([2]), indexedOk.subarray(0, 5), Buffer.alloc(2)]);
      await bench.client(request(3, '/pass/B', {}, true));
      await bench.runtime(
        frame(FrameType.headers, Flag.endStream | Flag.padded, 3, padded),
        frame(FrameType.continuation, Flag.endHeaders, 3, indexedOk.subarray(5)),
      );
    },
    'a block that is swallowed': async (bench) => {
      bench.late = true;
      await bench.client(observed(3, '/report/B'));
      await bench.runtime(frame(FrameType.headers, Flag.endHeaders, 3, indexedOk));
      t.equal(bench.calls.length, 1);
    },
    'a block whose list is too long': async (bench) => {
      await bench.client(request(3, '/pass/B', {}, true));
      const long = encodeLiteralBlock(fields({ 'x-long': 'v'.repeat(3000) }));
      // Indexed, and named some thirty times more.
      long[0] = 0x40;
      const block = Buffer.concat([long, Buffer.alloc(30, entry62), indexedOk]);
      await bench.runtime(frame(FrameType.headers, Flag.endHeaders, 3, block));
    },
  };
  for (const [what, fill] of Object.entries(cases)) {
    const bench = await unacknowledged();
    await bench.client(observed(1));
    await fill(bench);
    await bench.runtime(frame(FrameType.headers, last, 1, entry62));
    t.strictSame(bench.ends, ['/observe/A succeeded'], what);
    t.strictSame(bench.violations, []);
  }
});

t.test('after that the table is of no use, and trailers that need it are no success', async (t) => {
  const bench = await unacknowledged();
  await bench.client(observed(1));
  await bench.runtime(frame(FrameType.headers, Flag.endHeaders, 1, indexedOk), settingsAck);
  const trailers = frame(FrameType.headers, last, 1, entry62);
  await bench.runtime(trailers);
  t.strictSame(bench.ends, ['/observe/A failed']);
  t.ok(bench.toClient.all.subarray(-trailers.length).equals(trailers), 'they reach the client as they came');
  await goesOn(t, bench);
});

t.test('a block that is too long to be followed leaves nothing that is taken for what it was', async (t) => {
  const bench = await unacknowledged();
  await bench.client(observed(1), observed(3, '/observe/B'));
  const indexedNotFound = Buffer.concat([indexedOk.subarray(0, -1), Buffer.from('5')]);
  const long = Buffer.concat([encodeLiteralBlock(fields({ 'x-long': 'X'.repeat(20_000) })), indexedNotFound]);
  await bench.runtime(
    frame(FrameType.headers, Flag.endHeaders, 1, indexedOk),
    frame(FrameType.headers, 0, 3, long.subarray(0, 16_000)),
    frame(FrameType.continuation, Flag.endHeaders, 3, long.subarray(16_000)),
    frame(FrameType.headers, last, 1, entry62),
    headers(3, okTrailers, true),
  );
  t.strictSame(bench.ends, ['/observe/A failed', '/observe/B succeeded']);
});

t.test('after that only the trailers of observed calls are read', async (t) => {
  const bench = await RouterBench.started();
  const garbage = Buffer.alloc(20, 0xff);
  await bench.client(observed(1), request(3, '/pass/B', {}, true));
  await bench.runtime(
    frame(FrameType.headers, last, 3, garbage),
    frame(FrameType.headers, Flag.endHeaders, 1, garbage),
    headers(1, okTrailers, true),
  );
  t.strictSame(bench.ends, ['/observe/A succeeded']);
});

t.test('an encoder that says that its table is empty is understood', async (t) => {
  const bench = await asked();
  const block = Buffer.concat([Buffer.from([0x20]), encodeLiteralBlock(fields({ ...head, ...okTrailers }))]);
  await bench.runtime(frame(FrameType.headers, last, 1, block));
  t.strictSame(bench.ends, ['/observe/A succeeded']);
});

const unreadable: Record<string, readonly Buffer[]> = {
  'are no HPACK': [frame(FrameType.headers, last, 1, Buffer.alloc(20, 0xff))],
  'are padded beyond their frame': [frame(FrameType.headers, last | Flag.padded, 1, Buffer.from([9, 0, 0]))],
  'are shorter than their priority': [frame(FrameType.headers, last | Flag.priority, 1, Buffer.alloc(4))],
  'are long': [headers(1, { ...okTrailers, 'x-long': 'X'.repeat(20_000) }, true)],
  'go on and on': [
    frame(FrameType.headers, Flag.endStream, 1, encodeLiteralBlock(fields(okTrailers))),
    ...Array.from({ length: 2000 }, () => frame(FrameType.continuation, 0, 1, Buffer.alloc(0))),
    frame(FrameType.continuation, Flag.endHeaders, 1, Buffer.alloc(0)),
  ],
};

for (const [what, trailers] of Object.entries(unreadable)) {
  t.test(`trailers that ${what} are no success, and go on as they came`, async (t) => {
    for (const start of [asked, unacknowledged]) {
      const bench = await start();
      if (start === unacknowledged) await bench.client(observed(1));
      const before = bench.toClient.all.length;
      const sent = Buffer.concat([headers(1, head), ...trailers]);
      for (let at = 0; at < sent.length; at += 9000) await bench.runtime(sent.subarray(at, at + 9000));
      t.strictSame(bench.ends, ['/observe/A failed'], start.name);
      t.ok(bench.toClient.all.subarray(before).equals(sent));
      await goesOn(t, bench);
    }
  });
}

t.test('trailers that wait behind DATA for the window of the client are read when they come', async (t) => {
  const bench = await RouterBench.started();
  const other = await bench.take(1);
  await bench.client(observed(3));
  void other.send(Buffer.alloc(70_000));
  await bench.client(windowUpdate(1, 100_000));
  await bench.runtime(headers(3, head), data(3, message('done')), headers(3, okTrailers, true));
  t.notOk(bench.toClient.shown().includes('headers 3 end'), 'held back');
  t.strictSame(bench.ends, ['/observe/A succeeded']);
  await bench.client(windowUpdate(0, 100_000));
  t.ok(bench.toClient.shown().includes('headers 3 end'));
  t.equal(bench.ends.length, 1);
});

t.test('however an answer is cut, each byte goes on when it comes, and its end is told once', async (t) => {
  const long = headers(1, { ...head, 'x-long': 'v'.repeat(60) });
  const block = encodeLiteralBlock(fields(okTrailers));
  const answer = Buffer.concat([
    frame(FrameType.headers, 0, 1, long.subarray(9, 40)),
    frame(FrameType.continuation, Flag.endHeaders, 1, long.subarray(40)),
    data(1, message('done')),
    frame(FrameType.headers, Flag.endStream, 1, block.subarray(0, 7)),
    frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(7)),
  ]);
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: answer.length - 1 }), { maxLength: 20 });
  await t.resolves(
    fc.assert(
      fc.asyncProperty(cuts, fc.constantFrom(asked, unacknowledged), async (at, start) => {
        const bench = await start();
        if (start === unacknowledged) await bench.client(observed(1));
        const before = bench.toClient.all.length;
        let from = 0;
        for (const to of [...at.toSorted((a, b) => a - b), answer.length]) {
          if (bench.ends.length > 0) return false;
          await bench.runtime(answer.subarray(from, to));
          from = to;
          const got = bench.toClient.all.subarray(before);
          // A frame header goes on as a whole.
          if (got.length < to - 8 || !got.equals(answer.subarray(0, got.length))) return false;
        }
        return bench.ends.join() === '/observe/A succeeded';
      }),
    ),
  );
});
