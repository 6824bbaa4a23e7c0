// A part of the time that a page shows, chosen to be looked at apart, as the address has it.

import type { Range } from './time';

/** Milliseconds, `FROM-TO`. */
export const partText = ({ from, to }: Range): string => `${Math.round(from)}-${Math.round(to)}`;

/** A part of an address, as far as it lies within the range; null where none of it does. */
export function parsePart(text: string | undefined, range: Range): Range | null {
  const found = /^(\d{1,14})-(\d{1,14})$/.exec(text ?? '');
  if (!found) return null;
  const [from, to] = [Math.max(Number(found[1]), range.from), Math.min(Number(found[2]), range.to)];
  return from < to ? { from, to } : null;
}

/** In whole steps, what was chosen and some more. */
export const snapped = ({ from, to }: Range, step: number): Range => ({
  from: Math.floor(from / step) * step,
  to: Math.ceil(to / step) * step,
});

/** What is chosen where nobody has dragged: the middle third. */
export function middleOf({ from, to }: Range): Range {
  const third = (to - from) / 3;
  return { from: Math.round(from + third), to: Math.round(to - third) };
}

/** A part of a heatmap: times, and the bounds of its buckets. */
export interface HeatBox extends Range {
  lower: number;
  upper: number;
}

/** `FROM-TO,LOWER..UPPER`: milliseconds, and bounds in the unit of the buckets. */
export const heatBoxText = (box: HeatBox): string => `${partText(box)},${box.lower}..${box.upper}`;

/** A part of an address, as far as it lies within the range; null where none of it does. */
export function parseHeatBox(text: string | undefined, range: Range): HeatBox | null {
  const [times, bounds] = (text ?? '').split(',');
  const part = parsePart(times, range);
  const [lower, upper] = (bounds ?? '').split('..').map((bound) => (bound === '' ? Number.NaN : Number(bound)));
  return part && lower !== undefined && upper !== undefined && lower < upper ? { ...part, lower, upper } : null;
}
