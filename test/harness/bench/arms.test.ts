import t from 'tap';
import { armOf } from '../../../src/harness/bench/arms.js';
import { readScenario } from '../../../src/harness/bench/scenario.js';

const scenario = {
  ...readScenario('steady'),
  holdfast: ['--pressure-cpu=80', '--max-creations=4', '--admission=fixed', '--pressure-io=off'],
};

t.test('Holdfast gets the options of the scenario, but those an arm is without', async (t) => {
  t.same(armOf('direct', scenario).holdfast, undefined);
  t.same(armOf('holdfast', scenario).holdfast, scenario.holdfast);
  t.same(armOf('holdfast-off', scenario).holdfast, [
    ...['--pressure-cpu=80', '--max-creations=4', '--pressure-io=off'],
    '--admission=off',
  ]);
  t.same(armOf('holdfast-no-psi', scenario).holdfast, [
    ...['--max-creations=4', '--admission=fixed'],
    ...['--pressure-cpu=off', '--pressure-io=off', '--pressure-memory=off'],
  ]);
});

t.test('a title says what is behind it', async (t) => {
  t.equal(armOf('holdfast-no-psi', scenario).title, 'containerd through Holdfast that knows of no pressure');
  t.equal(
    armOf('holdfast-no-psi', scenario, 'cri-o 1.36').title,
    'cri-o 1.36 through Holdfast that knows of no pressure',
  );
});
