#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// The proxy makes little garbage; its modules, while they are loaded, make much. The young generation would grow for them and stay as
// large: 16 MB more of memory on every node.
setFlagsFromString('--semi-space-growth-factor=1');
const { main } = await import('../dist/cli.js');

process.exit(await main(process.argv.slice(2)));
