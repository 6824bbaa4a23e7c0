// What tells a selection from a baseline: the shares of values in both. An attribute's score is the largest difference of
// shares among its values, as the server has it for spans: 1 if some value is all of one set and nothing of the other.

export interface DifferingValue {
  value: string;
  /** How much of each set has it: records, spans, means. */
  selection: number;
  baseline: number;
  /** The same as parts of the whole sets. */
  own: number;
  other: number;
}

export interface Differing {
  /** Where it stands, where that is worth saying: `span`, `resource`. */
  scope?: string;
  name: string;
  score: number;
  /** The largest difference first. */
  values: DifferingValue[];
}

/** Differences of shares up to this are noise. */
export const TELLING = 0.005;

/** Attributes with more values say little of each; they are named, not compared. */
export const MOST_VALUES = 1000;

const apart = (value: DifferingValue): number => Math.abs(value.own - value.other);

/** The largest difference first; of the same, what the selection has more of. Digits beyond a billionth are rounding. */
const byDifference = (a: DifferingValue, b: DifferingValue): number =>
  Math.round((apart(b) - apart(a)) * 1e9) || b.own - b.other - (a.own - a.other) || (a.value < b.value ? -1 : 1);

/** Compares the values of one attribute; both sets have to have something. */
export function differing(
  name: string,
  counts: Iterable<[value: string, selection: number, baseline: number]>,
  selection: number,
  baseline: number,
  scope?: string,
): Differing {
  const values: DifferingValue[] = [];
  for (const [value, chosen, other] of counts)
    values.push({ value, selection: chosen, baseline: other, own: chosen / selection, other: other / baseline });
  values.sort(byDifference);
  return { ...(scope === undefined ? {} : { scope }), name, score: values[0] ? apart(values[0]) : 0, values };
}

/** Those that tell something, the most telling first. */
export const ranked = (fields: Differing[]): Differing[] =>
  fields
    .filter((field) => field.score > TELLING)
    .sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));

/** Values of an attribute that differ; those that are spread alike tell nothing. */
export const telling = (field: Differing): DifferingValue[] =>
  field.values.filter((value, i) => i === 0 || apart(value) > TELLING);
