/** Compiles a copy of the project, each file beside its source: half of what a test file takes is to compile it anew each time. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

const compilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext };

/** @param source A file of the project, `.ts`. @returns The compiled one. */
export function compiled(source: string): string {
  return source.replace(/\.ts$/, '.js');
}

/** @returns JavaScript. Types are not looked at: what is broken may not fit them. */
export function compile(code: string): string {
  return ts.transpileModule(code, { compilerOptions }).outputText;
}

/** @param folder Of a copy. */
export function compileAll(folder: string): void {
  for (const part of ['src', 'test']) {
    for (const name of readdirSync(path.join(folder, part), { recursive: true, encoding: 'utf8' })) {
      const source = path.join(folder, part, name);
      if (source.endsWith('.ts')) writeFileSync(compiled(source), compile(readFileSync(source, 'utf8')));
    }
  }
}
