// The edges of a part of the time on the grid of what is drawn.

import type { Range } from './time';

/** Moments that the edges of a part may lie at: `count` steps, one moment more. */
export interface Grid {
  from: number;
  step: number;
  count: number;
}

/** Positions on the grid of the edges that lie nearest; at least one step apart. */
export function edgesOf(part: Range, { from, step, count }: Grid): [number, number] {
  const place = (ms: number): number => Math.min(Math.max(Math.round((ms - from) / step), 0), count);
  const low = Math.min(place(part.from), Math.max(0, count - 1));
  return [low, Math.max(place(part.to), low + 1)];
}

export const between = ([low, high]: [number, number], { from, step }: Grid): Range => ({
  from: from + low * step,
  to: from + high * step,
});
