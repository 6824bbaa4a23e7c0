// Spans of a trace packed into lanes: each below its parent, none over another. What runs beside each other lies in lanes
// of its own, so that a picture of lanes shows every span.

import type { TraceView } from './trace';

export interface Lanes {
  /** Of each span. */
  lane: Int32Array;
  count: number;
}

/** Stretches of a lane that are taken, by their begins; they do not overlap. */
interface Taken {
  from: number[];
  to: number[];
}

/** The place in a lane where a stretch fits, or -1. */
function freePlace(taken: Taken, from: number, to: number): number {
  let [low, high] = [0, taken.from.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (taken.from[middle]! < from) low = middle + 1;
    else high = middle;
  }
  const free = (low === 0 || taken.to[low - 1]! <= from) && (low === taken.from.length || taken.from[low]! >= to);
  return free ? low : -1;
}

/** Lanes that are tried for a span; beyond them it lies over others, which a trace of that width hides anyway. */
const TRIED = 400;

export function lanesOf(view: TraceView): Lanes {
  const { size, begin, end, trace } = view;
  const lane = new Int32Array(size.length);
  const lanes: Taken[] = [];
  // Without a length a span would fit everywhere: it takes a little.
  const least = Math.max(1, view.totalNs * 1e-5);
  for (let i = 0; i < size.length; i++) {
    const { parent } = trace.spans[i]!;
    const first = parent === null ? 0 : lane[parent]! + 1;
    const [from, to] = [begin[i]!, Math.max(end[i]!, begin[i]! + least)];
    let at = first;
    for (; at < first + TRIED; at++) {
      lanes[at] ??= { from: [], to: [] };
      const taken = lanes[at]!;
      const place = freePlace(taken, from, to);
      if (place < 0) continue;
      taken.from.splice(place, 0, from);
      taken.to.splice(place, 0, to);
      break;
    }
    lane[i] = Math.min(at, first + TRIED - 1);
  }
  return { lane, count: lanes.length };
}
