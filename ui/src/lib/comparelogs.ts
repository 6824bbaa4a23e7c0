// Which fields of log records are spread differently over a part of the time than over the rest: asked of the server field
// by field, a few at once, so many and no more. What lies outside is the whole less the part: two questions a field.

import type { LogField, LogQuestion, TopValues } from '../api/logs';
import { type Differing, differing, MOST_VALUES, ranked } from './compare';
import type { Range } from './time';

/** Fields that are asked about: what most records have comes first. */
export const MOST_FIELDS = 30;
/** Questions under way at once. */
const AT_ONCE = 3;

/** Of these every record, or every few, has its own. */
const OWN = new Set(['body', 'time', 'observed_time', 'trace_id', 'span_id']);
const FIRST = ['level', 'service.name'];

export interface LogComparison {
  /** Against the rest of the range, or, where it has no records, against as long a time before the part. */
  against: 'rest' | 'before';
  selection: number;
  baseline: number;
  fields: Differing[];
  /** Fields that have been asked about, and those that are to be. */
  done: number;
  wanted: number;
  /** Fields with too many values. */
  leftOut: string[];
  /** Fields beyond the limit. */
  more: string[];
  failed: { name: string; why: string }[];
}

/** What is asked of the server. */
export interface Asking {
  fields: (question: LogQuestion) => Promise<LogField[]>;
  top: (question: LogQuestion, field: string, limit: number) => Promise<TopValues>;
}

/** As long a time right before. */
export const spanBefore = ({ from, to }: Range): Range => ({ from: from - (to - from), to: from });

const textOf = (row: TopValues['values'][number]): string => Object.values(row.fields)[0] ?? '';

/** Which fields are compared, and in which order. */
export function comparable(fields: LogField[]): string[] {
  const rank = (name: string): number => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [
    ...new Set(
      fields
        .filter((field) => !OWN.has(field.name))
        .sort(
          (a, b) =>
            rank(a.name) - rank(b.name) || b.count - a.count || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
        )
        .map((field) => field.name),
    ),
  ];
}

/**
 * Compares the records of a part with the others. `onMore` is told what is known so far. A field that can not be asked
 * about is named with the reason; that the records can not be counted at all is an error.
 */
export async function compareLogs(
  question: LogQuestion,
  part: Range,
  ask: Asking,
  signal: AbortSignal,
  onMore: (known: LogComparison) => void,
): Promise<LogComparison> {
  const chosen = { ...question, ...part };
  const count = async (asked: LogQuestion): Promise<number> => (await ask.top(asked, 'level', 1)).total;
  const [selection, whole] = await Promise.all([count(chosen), count(question)]);
  const against = whole > selection ? 'rest' : 'before';
  const base = against === 'rest' ? question : { ...question, ...spanBefore(part) };
  const baseline = against === 'rest' ? whole - selection : await count(base);
  const out: LogComparison = {
    against,
    selection,
    baseline,
    fields: [],
    done: 0,
    wanted: 0,
    leftOut: [],
    more: [],
    failed: [],
  };
  if (selection === 0 || baseline === 0) return out;
  const names = comparable(await ask.fields({ ...question, from: Math.min(question.from, base.from) }));
  const asked = names.slice(0, MOST_FIELDS);
  out.more = names.slice(MOST_FIELDS);
  out.wanted = asked.length;
  const told = (): LogComparison => ({ ...out, fields: ranked(out.fields) });

  const one = async (name: string): Promise<void> => {
    const other = await ask.top(base, name, MOST_VALUES);
    // Nothing more has to be asked of it.
    if (other.distinct > MOST_VALUES) {
      out.leftOut.push(name);
      return;
    }
    const own = await ask.top(chosen, name, MOST_VALUES);
    if (own.distinct > MOST_VALUES) {
      out.leftOut.push(name);
      return;
    }
    const counts = new Map<string, [string, number, number]>();
    for (const row of other.values) counts.set(textOf(row), [textOf(row), 0, row.count]);
    for (const row of own.values) {
      const value = textOf(row);
      const there = counts.get(value)?.[2] ?? 0;
      // Records may have come between two answers: there are never less than none.
      counts.set(value, [value, row.count, against === 'rest' ? Math.max(0, there - row.count) : there]);
    }
    const rest = against === 'rest' ? other.total - own.total : other.total;
    if (own.total > 0 && rest > 0) out.fields.push(differing(name, counts.values(), own.total, rest));
  };
  const queue = [...asked];
  const work = async (): Promise<void> => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      try {
        await one(name);
      } catch (error) {
        if (signal.aborted) throw error;
        out.failed.push({ name, why: error instanceof Error ? error.message : String(error) });
      }
      signal.throwIfAborted();
      out.done += 1;
      onMore(told());
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return told();
}
