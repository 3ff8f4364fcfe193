#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// Both are numbers that V8 looks up when it decides how large a heap may grow; flags of other kinds must not change once it runs.
//
// The proxy makes little garbage; its modules, while they are loaded, make much. The young generation would grow for them and stay as
// large: 16 MB more of memory on every node.
setFlagsFromString('--semi-space-growth-factor=1');
// After a burst the old generation would be let grow to several times what lives.
setFlagsFromString('--heap-growing-percent=50');
const { main } = await import('../dist/cli.js');

process.exit(await main(process.argv.slice(2)));
