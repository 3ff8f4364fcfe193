/** The simulated runtime as a service: runtime.mjs DIST SOCKET. */
const [dist, socketPath] = process.argv.slice(2);
const { SimulatedRuntime } = await import(`${dist}/harness/simulated-runtime.js`);
await new SimulatedRuntime({ socketPath }).listen();
