// A trace as a page shows it: spans as numbers on one axis, which rows are in sight, how time becomes place, what a
// search finds. Everything here is of flat arrays, so that ten thousand spans cost what a hundred do to look at.
//
// Spans come from the top down: what is below a span stands right behind it, `size` spans long with itself.

import type { LogValue } from '../api/logs';
import type { Dependency, Span, Trace } from '../api/traces';
import { assignLooks } from './colour';
import { textOf } from './logrow';
import type { Range } from './time';
import { formatValue } from './units';

export interface TraceView {
  trace: Trace;
  /** First start of all spans, in nanoseconds. */
  startNs: bigint;
  /** From the first start to the last end. */
  totalNs: number;
  /** Of each span, nanoseconds after the start. */
  begin: Float64Array;
  end: Float64Array;
  /** Spans below and the span itself. */
  size: Int32Array;
  children: Int32Array;
  /** Failed spans below, without the span itself. */
  errorsBelow: Int32Array;
  /** Of each span, the position of its service in `services`. */
  service: Int32Array;
  services: { name: string; spans: number; errors: number; colour: number }[];
  /** Parts of the critical path by span: begins and ends. */
  critical: Map<number, [number, number][]>;
  depth: number;
  errors: number[];
  /** Position of the first span of each id. */
  byId: Map<string, number>;
}

export const isFailed = (span: Span): boolean => span.status === 'error';

/** What a service without a name is called. */
export const serviceName = (name: string): string => (name === '' ? '(no service)' : name);

/** Colours of services, by their names in the order of names. */
export const serviceColours = (names: string[]): Map<string, number> => {
  const sorted = [...new Set(names)].sort();
  const looks = assignLooks(sorted);
  return new Map(sorted.map((name, i) => [name, looks[i]!.colour]));
};

export function viewOf(trace: Trace): TraceView {
  const { spans } = trace;
  const count = spans.length;
  let startNs = spans.length > 0 ? BigInt(spans[0]!.startTimeUnixNano) : 0n;
  const starts = spans.map((span) => BigInt(span.startTimeUnixNano));
  for (const start of starts) if (start < startNs) startNs = start;
  const begin = new Float64Array(count);
  const end = new Float64Array(count);
  const size = new Int32Array(count).fill(1);
  const children = new Int32Array(count);
  const errorsBelow = new Int32Array(count);
  const service = new Int32Array(count);
  const counted = new Map<string, { name: string; spans: number; errors: number }>();
  const byId = new Map<string, number>();
  const errors: number[] = [];
  let [totalNs, depth] = [0, 0];
  spans.forEach((span, i) => {
    begin[i] = Number(starts[i]! - startNs);
    end[i] = begin[i]! + Math.max(0, Number(span.durationNs));
    totalNs = Math.max(totalNs, end[i]!);
    depth = Math.max(depth, span.depth + 1);
    if (!byId.has(span.spanId)) byId.set(span.spanId, i);
    const known = counted.get(span.service) ?? { name: span.service, spans: 0, errors: 0 };
    known.spans += 1;
    if (isFailed(span)) {
      known.errors += 1;
      errors.push(i);
    }
    counted.set(span.service, known);
  });
  // From the end: what is below is counted before what is above it.
  for (let i = count - 1; i >= 0; i--) {
    const parent = spans[i]!.parent;
    if (parent === null) continue;
    size[parent] = size[parent]! + size[i]!;
    children[parent] = children[parent]! + 1;
    errorsBelow[parent] = errorsBelow[parent]! + errorsBelow[i]! + (isFailed(spans[i]!) ? 1 : 0);
  }
  const colours = serviceColours([...counted.keys()]);
  const services = [...counted.values()]
    .sort((a, b) => b.spans - a.spans || (a.name < b.name ? -1 : 1))
    .map((one) => ({ ...one, colour: colours.get(one.name)! }));
  const position = new Map(services.map((one, i) => [one.name, i]));
  spans.forEach((span, i) => {
    service[i] = position.get(span.service)!;
  });
  const critical = new Map<number, [number, number][]>();
  for (const part of trace.criticalPath) {
    const piece: [number, number] = [
      Number(BigInt(part.startTimeUnixNano) - startNs),
      Number(BigInt(part.endTimeUnixNano) - startNs),
    ];
    const list = critical.get(part.span);
    if (list) list.push(piece);
    else critical.set(part.span, [piece]);
  }
  return {
    trace,
    startNs,
    totalNs,
    begin,
    end,
    size,
    children,
    errorsBelow,
    service,
    services,
    critical,
    depth,
    errors,
    byId,
  };
}

/** Spans come a while after their end: senders collect them, and parts of a trace come from several. */
const ARRIVES_WITHIN_MS = 30_000;

/** Whether more spans of a trace are to be expected: one ended a moment ago. Clocks that are far ahead say nothing. */
export function mayGrow(trace: Trace, nowMs: number): boolean {
  const at = (ms: number): bigint => BigInt(Math.round(ms)) * 1_000_000n;
  const [since, until] = [at(nowMs - ARRIVES_WITHIN_MS), at(nowMs + ARRIVES_WITHIN_MS)];
  return trace.spans.some(({ endTimeUnixNano }) => {
    const end = BigInt(endTimeUnixNano);
    return since < end && end < until;
  });
}

/** Spans above a span, the nearest first. */
export function ancestors(view: TraceView, at: number): number[] {
  const out: number[] = [];
  for (let up = view.trace.spans[at]?.parent ?? null; up !== null; up = view.trace.spans[up]!.parent) out.push(up);
  return out;
}

/** What is kept of a trace when some spans are wanted: those, and the way to each. */
export function keptFor(view: TraceView, wanted: Uint8Array): Uint8Array {
  const kept = Uint8Array.from(wanted);
  for (let i = kept.length - 1; i >= 0; i--) {
    const parent = view.trace.spans[i]!.parent;
    if (kept[i] && parent !== null) kept[parent] = 1;
  }
  return kept;
}

/** Positions of the spans that are shown, from the top down. */
export function rowsOf(view: TraceView, isOpen: (at: number) => boolean, kept: Uint8Array | null): number[] {
  const rows: number[] = [];
  for (let i = 0; i < view.size.length; ) {
    if (kept && !kept[i]) {
      // Nothing below is kept either: the way to what is wanted is.
      i += view.size[i]!;
      continue;
    }
    rows.push(i);
    i += isOpen(i) ? 1 : view.size[i]!;
  }
  return rows;
}

/** The last of `sorted` that is at most `value`, or -1. */
export function lastUpTo(sorted: ArrayLike<number>, value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The next of some spans in their order, round the end; `step` is 1 or -1. */
export function beside(list: number[], at: number, step: 1 | -1): number | undefined {
  if (list.length === 0) return undefined;
  const before = lastUpTo(list, step === 1 ? at : at - 1);
  const next = step === 1 ? before + 1 : before;
  return list[(next + list.length) % list.length];
}

// --- Search -----------------------------------------------------------------------------------------------------------

/** Characters of a value that are searched. */
const SEARCHED = 20_000;

const pairs = (attributes: Record<string, LogValue>): string =>
  Object.entries(attributes)
    .map(([key, value]) => `${key}=${textOf(value).slice(0, SEARCHED)}`)
    .join('\n');

/** What of a span is searched, in small letters. */
export function searched(trace: Trace, at: number): string {
  const span = trace.spans[at]!;
  const parts = [
    span.name,
    span.service,
    span.kind,
    span.status,
    span.statusMessage,
    span.spanId,
    pairs(span.attributes),
    pairs(trace.streams[span.stream]?.resource ?? {}),
    ...span.events.map((event) => `${event.name}\n${pairs(event.attributes)}`),
    ...span.links.map((link) => link.traceId),
  ];
  return parts.join('\n').toLowerCase();
}

/** Finds spans that have all words; texts are made once a trace. */
export function finder(trace: Trace): (find: string) => Uint8Array | null {
  const texts: string[] = [];
  return (find) => {
    const words = find.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return null;
    const found = new Uint8Array(trace.spans.length);
    for (let i = 0; i < found.length; i++) {
      texts[i] ??= searched(trace, i);
      found[i] = words.every((word) => texts[i]!.includes(word)) ? 1 : 0;
    }
    return found;
  };
}

export const positions = (marks: Uint8Array): number[] => {
  const out: number[] = [];
  marks.forEach((mark, i) => mark && out.push(i));
  return out;
};

// --- Time on the axis ---------------------------------------------------------------------------------------------

/** Gaps that are folded at most: each takes its place on the axis. */
const MOST_GAPS = 15;

/** Stretches in which no span runs, and that are long beside the time in which some do: a quarter of it, or more. */
export function gapsOf(view: TraceView): Range[] {
  const order = Array.from(view.begin.keys()).sort((a, b) => view.begin[a]! - view.begin[b]!);
  const holes: Range[] = [];
  let [until, silent] = [0, 0];
  for (const i of order) {
    const begun = view.begin[i]!;
    if (begun > until) {
      holes.push({ from: until, to: begun });
      silent += begun - until;
    }
    until = Math.max(until, view.end[i]!);
  }
  const least = (view.totalNs - silent) / 4;
  const long = (gap: Range): number => gap.to - gap.from;
  return holes
    .filter((gap) => long(gap) >= least)
    .sort((a, b) => long(b) - long(a))
    .slice(0, MOST_GAPS)
    .sort((a, b) => a.from - b.from);
}

/** What a folded gap takes of the axis. */
const FOLDED = 0.02;

/** Nanoseconds to shares of the axis and back; gaps that are folded take a little place each, whatever they last. */
export interface Axis {
  from: number;
  to: number;
  folds: Range[];
  x: (ns: number) => number;
  ns: (x: number) => number;
}

export function axisOf(window: Range, gaps: Range[]): Axis {
  const { from } = window;
  const to = Math.max(window.to, from + 1);
  // Only those that lie within: a gap that reaches out of the window has an end that is not seen.
  const folds = gaps.filter((gap) => gap.from > from && gap.to < to);
  const folded = folds.reduce((sum, gap) => sum + (gap.to - gap.from), 0);
  const scale = (1 - FOLDED * folds.length) / Math.max(1, to - from - folded);
  // Where pieces begin: nanoseconds and their places.
  const at = [from];
  const places = [0];
  const scales = [scale];
  const put = (ns: number, next: number) => {
    places.push(places.at(-1)! + (ns - at.at(-1)!) * scales.at(-1)!);
    at.push(ns);
    scales.push(next);
  };
  for (const gap of folds) {
    put(gap.from, FOLDED / (gap.to - gap.from));
    put(gap.to, scale);
  }
  return {
    from,
    to,
    folds,
    x: (ns) => {
      const i = Math.max(0, lastUpTo(at, ns));
      return places[i]! + (ns - at[i]!) * scales[i]!;
    },
    ns: (x) => {
      const i = Math.max(0, lastUpTo(places, x));
      return at[i]! + (x - places[i]!) / scales[i]!;
    },
  };
}

/** Round moments on an axis and how far they are apart, about so many; none within folded gaps. */
export function ticksOf(axis: Axis, wanted: number): { ticks: number[]; step: number } {
  const folded = axis.folds.reduce((sum, gap) => sum + (gap.to - gap.from), 0);
  const rough = (axis.to - axis.from - folded) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power;
  const out: number[] = [];
  for (let k = Math.ceil(axis.from / step); k * step < axis.to && out.length < 200; ) {
    const tick = k * step;
    const gap = axis.folds.find((one) => tick > one.from && tick < one.to);
    if (gap) {
      k = Math.ceil(gap.to / step);
      continue;
    }
    out.push(tick);
    k += 1;
  }
  return { ticks: out, step };
}

/** A moment on the axis, with as many digits as tell it from the next one. */
export function tickText(ns: number, step: number): string {
  if (ns === 0) return '0';
  if (step >= 6e10) return formatValue(ns, 'ns');
  const [size, unit] = (
    [
      [1e9, 's'],
      [1e6, 'ms'],
      [1e3, 'µs'],
    ] as const
  ).find(([one]) => ns >= one) ?? [1, 'ns'];
  const digits = Math.max(0, -Math.floor(Math.log10(step / size) + 1e-9));
  return `${(ns / size).toFixed(Math.min(digits, 12))} ${unit}`;
}

// --- Facts of a span ----------------------------------------------------------------------------------------------

/** Time in which a span runs and none of its children does. */
export function selfNs(view: TraceView, at: number): number {
  const [from, to] = [view.begin[at]!, view.end[at]!];
  const below: [number, number][] = [];
  for (let i = at + 1; i < at + view.size[at]!; i += view.size[i]!) {
    below.push([Math.max(from, view.begin[i]!), Math.min(to, view.end[i]!)]);
  }
  below.sort((a, b) => a[0] - b[0]);
  let [taken, until] = [0, from];
  for (const [a, b] of below) {
    // One that lies beside its parent, by another clock, takes nothing of it.
    if (b <= until || b <= a) continue;
    taken += b - Math.max(a, until);
    until = b;
  }
  return Math.max(0, to - from - taken);
}

/** Who calls whom within a trace. */
export function callsWithin(view: TraceView): Dependency[] {
  const calls = new Map<string, Dependency>();
  view.trace.spans.forEach((span) => {
    const caller = span.parent === null ? undefined : view.trace.spans[span.parent]!.service;
    if (caller === undefined || caller === span.service) return;
    const key = JSON.stringify([caller, span.service]);
    const call = calls.get(key) ?? {
      parent: caller,
      child: span.service,
      callCount: 0,
      errorCount: 0,
      averageDurationNs: 0,
    };
    call.averageDurationNs += (Number(span.durationNs) - call.averageDurationNs) / (call.callCount + 1);
    call.callCount += 1;
    call.errorCount += isFailed(span) ? 1 : 0;
    calls.set(key, call);
  });
  return [...calls.values()];
}

/** The time of a span or a trace in whole milliseconds, with room on both sides, for screens that show other signals. */
export function around(startNs: bigint, durationNs: number, least = 60_000): Range {
  const from = Number(startNs / 1_000_000n);
  const lasts = durationNs / 1e6;
  const room = Math.max(least, lasts * 0.1);
  return { from: Math.floor(from - room), to: Math.ceil(from + lasts + room) };
}

/** A window of the axis as the address has it: nanoseconds after the trace's start. */
export const windowText = ({ from, to }: Range): string => `${Math.round(from)}-${Math.round(to)}`;

export function parseWindow(text: string | undefined, totalNs: number): Range {
  const found = /^(\d{1,18})-(\d{1,18})$/.exec(text ?? '');
  const whole = { from: 0, to: Math.max(1, totalNs) };
  if (!found) return whole;
  const [from, to] = [Number(found[1]), Math.min(Number(found[2]), whole.to)];
  return from < to ? { from, to } : whole;
}
