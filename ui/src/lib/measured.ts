/** Does work that a goal is set for, and leaves what it took in the browser's own profile, where `make bench-ui` reads it. */
export function measured<T>(name: string, work: () => T): T {
  const start = performance.now();
  const done = work();
  performance.measure(name, { start, end: performance.now() });
  return done;
}
