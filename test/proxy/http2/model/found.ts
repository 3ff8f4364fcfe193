/** Plans the model once found fault with, as small as they get, by what must hold. */
import { Setting } from '../../../../src/proxy/http2/frames.js';
import { maxConcurrentStreams, type PeerPlan, type Plan, plainStream, type StreamPlan } from './plan.js';

const max31 = 2 ** 31 - 1;

const peer: PeerPlan = {
  settings: [],
  laterSettings: [],
  pings: [],
  measures: false,
  unknown: [],
  extraWindow: 0,
  grantBytes: max31,
  connectionTarget: 65_535,
  streamTarget: 65_535,
  lazyGrants: false,
  tableBytes: 4096,
  representations: [0],
};

function plan(streams: readonly StreamPlan[], rest: Partial<Plan> = {}): Plan {
  return {
    client: peer,
    backend: peer,
    streams,
    schedule: [0],
    chunks: [2 ** 20],
    highWater: 2 ** 30,
    pauses: [],
    ...rest,
  };
}

function respond(stream: StreamPlan, response: Partial<StreamPlan['response']>): StreamPlan {
  return { ...stream, response: { ...stream.response, ...response } };
}

const take = plainStream('take', 8, 8);
const pass = plainStream('pass', 8, 8);
const long = { name: 'x-a', value: 'l'.repeat(4100) };

export const found: Readonly<Record<string, Plan>> = {
  'the ACK of a proof goes to no runtime, though its stream was reset': plan([
    { ...respond(take, { head: false, messages: [] }), cancel: { after: 1, code: 8 } },
  ]),
  'a smaller initial window of the runtime does not starve a taken request': plan([plainStream('take', 16_389, 5)], {
    backend: { ...peer, settings: [[Setting.initialWindowSize, 0]] },
    schedule: [0, 1, 61, 0, 0, 34, 0],
    chunks: [3, 2 ** 20, 2 ** 20],
  }),
  'a held CONTINUATION follows its HEADERS': plan(
    [
      plainStream('take', 10, 65_535),
      respond(pass, { head: false, messages: [0] }),
      respond(pass, {
        head: false,
        fields: [long],
        messages: [0],
        block: { padding: undefined, priority: false, cuts: [0] },
      }),
      respond(take, { head: false, messages: [] }),
    ],
    {
      client: { ...peer, grantBytes: 100, connectionTarget: 100 },
      schedule: [0, 808, 570, 9],
      chunks: [1, 9, 40, 100],
      highWater: 16_384,
    },
  ),
  'no window of a taken request exceeds 2^31-1': plan([plainStream('take', 40_000, 5)], {
    backend: {
      ...peer,
      settings: [[Setting.initialWindowSize, 7]],
      laterSettings: [{ at: 1, what: [[Setting.initialWindowSize, max31]] }],
    },
    schedule: [1, 2],
    chunks: [100],
    pauses: [{ who: 'backend', at: 3, steps: 300 }],
  }),
  'a client that lowers its header table twice is told of both sizes': plan([take, take, take, pass, pass], {
    client: {
      ...peer,
      settings: [[Setting.headerTableSize, 65_536]],
      laterSettings: [
        { at: 1, what: [[Setting.headerTableSize, 8192]] },
        { at: 6, what: [[Setting.headerTableSize, 4096]] },
      ],
    },
    backend: { ...peer, settings: [[maxConcurrentStreams, 1]] },
  }),
};
