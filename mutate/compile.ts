/** Compiles the copy of the project it is run in: what StrykerJS runs before the tests. */
import { compileAll } from './compiled.js';

compileAll('.');
