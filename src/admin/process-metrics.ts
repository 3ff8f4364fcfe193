/**
 * What the process itself takes, under the names every Prometheus client uses. prom-client's own set is not used: it keeps a timer of
 * 10 ms for the lag of the event loop and an observer for each garbage collection, which a process that is idle nearly all the time
 * would mostly be busy with. These cost nothing until somebody asks.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Counter, Gauge, type Registry } from 'prom-client';

export function observeProcess(registry: Registry): void {
  const counter = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  const gauge = (name: string, help: string, read: () => number | undefined) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const value = read();
        if (value === undefined) this.remove();
        else this.set(value);
      },
    });
  const { cpuUsage, memoryUsage } = process;
  counter('process_cpu_user_seconds_total', 'User CPU time spent in seconds.', () => cpuUsage().user / 1e6);
  counter('process_cpu_system_seconds_total', 'System CPU time spent in seconds.', () => cpuUsage().system / 1e6);
  counter('process_cpu_seconds_total', 'User and system CPU time spent in seconds.', () => {
    const { user, system } = cpuUsage();
    return (user + system) / 1e6;
  });
  const startSeconds = Date.now() / 1000 - process.uptime();
  gauge('process_start_time_seconds', 'Start time of the process since unix epoch in seconds.', () => startSeconds);
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => memoryUsage.rss());
  gauge('process_open_fds', 'Number of open file descriptors.', openFiles);
  gauge('process_max_fds', 'Maximum number of open file descriptors.', mostOpenFiles);
  gauge('nodejs_heap_size_total_bytes', 'Heap size of Node.js in bytes.', () => memoryUsage().heapTotal);
  gauge('nodejs_heap_size_used_bytes', 'Heap size of Node.js that is used, in bytes.', () => memoryUsage().heapUsed);
  gauge('nodejs_external_memory_bytes', 'Memory of Node.js outside its heap in bytes.', () => memoryUsage().external);
  counter(
    'nodejs_eventloop_active_seconds_total',
    'Time for which the event loop had something to do, in seconds.',
    () => performance.eventLoopUtilization().active / 1000,
  );
}

/** @returns undefined where there is no /proc. */
function openFiles(): number | undefined {
  try {
    // The directory itself is open while it is read.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return undefined;
  }
}

/** Node has raised the soft limit to the hard one at its start. Source: proc(5), `/proc/pid/limits`. */
function mostOpenFiles(): number | undefined {
  try {
    const limit = /^Max open files +(\d+)/m.exec(String(readFileSync('/proc/self/limits')))?.[1];
    return limit === undefined ? undefined : Number(limit);
  } catch {
    return undefined;
  }
}
