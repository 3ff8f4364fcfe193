/**
 * Takes the types out of what tests import; tsconfig.json names it, and tap's loader asks it. The compiler does the same, and needs
 * seconds of CPU for each test file: more than most tests do. It knows nothing of types: `npm run typecheck` does.
 */
const { transformSync } = require('esbuild');

exports.create = () => ({
  transpile(input, { fileName }) {
    const options = { loader: 'ts', target: 'es2023', sourcefile: fileName, sourcemap: 'external' };
    const { code, map } = transformSync(input, options);
    return { outputText: code, sourceMapText: map };
  },
});
