/** The units of examples/systemd under a real systemd, before a real containerd: what crashes of Holdfast cost its pods. */
import t from 'tap';
import { images, skipReason as skipContainerd, startContainerd } from './support/containerd.js';
import { missingGrpcGo } from './support/grpc-go.js';
import { skipFor } from './support/programs.js';
import { machineTmp, missingSystemd } from './support/systemd.js';
import { kills, stormOfKills } from './support/systemd-storm.js';
import { patient, start, startNode } from './support/systemd-units.js';

t.setTimeout(900_000);

const skip = skipFor(missingSystemd() ?? missingGrpcGo());

t.test('a crash costs one call with pods on a real containerd', { skip: skip || skipContainerd }, async (t) => {
  const containerd = await startContainerd(t);
  const node = await startNode(t, patient, containerd.socket.replace(/^\/tmp\//, `${machineTmp}/`));
  await start(node);
  const { cgroupParent } = containerd;
  const plan = { pods: 10, kills, everyMs: 300, imageName: images.busybox };
  await stormOfKills(t, node, containerd.socket, { ...plan, cgroupParent: `${cgroupParent}/storm` });
});
