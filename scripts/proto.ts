/** `npm run proto`: writes proto/cri.json, which is what proto/cri.proto says in the form that protobufjs reads without parsing. */
import { readFileSync, writeFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const folder = new URL('../proto/', import.meta.url);
const { root } = protobuf.parse(readFileSync(new URL('cri.proto', folder), 'utf8'), { keepCase: true });
writeFileSync(new URL('cri.json', folder), `${JSON.stringify(root, null, 2)}\n`);
