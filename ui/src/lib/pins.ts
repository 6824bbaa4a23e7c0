// Records that are kept in sight, as an address names them: by their time and a hash of what they hold, so that a link
// finds them whatever is searched for.

import type { LogRow } from '../api/logs';
import { jsonOf } from './logrow';

/** An address has to stay one that can be sent. */
export const MOST_PINS = 20;

/** FNV-1a of 53 bits, in base 36. */
function hash(text: string): string {
  let [low, high] = [0x811c9dc5, 0x1b873593];
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193);
    high = Math.imul(high ^ text.charCodeAt(i), 0x85ebca6b);
  }
  return ((low >>> 0) * 0x200000 + ((high >>> 0) & 0x1fffff)).toString(36);
}

/** What of a record does not depend on the question that found it. */
export function pinOf(row: LogRow): string {
  const { body, severityNumber, traceId, spanId, attributes, resource } = row;
  return `${row.timeUnixNano}_${hash(jsonOf([body, severityNumber, traceId, spanId, attributes, resource]))}`;
}

/** The time of a pin, or none where the text is no pin. */
export const pinTime = (pin: string): string | null => /^(\d{1,20})_[0-9a-z]+$/.exec(pin)?.[1] ?? null;

/** With a record, or without it if it is there; null where there is no room. */
export function togglePin(pins: string[], pin: string): string[] | null {
  if (pins.includes(pin)) return pins.filter((one) => one !== pin);
  return pins.length >= MOST_PINS ? null : [...pins, pin];
}

/** Newest first, as all records are. */
export const byTime = (a: LogRow, b: LogRow): number =>
  b.timeUnixNano.length - a.timeUnixNano.length || (b.timeUnixNano > a.timeUnixNano ? 1 : -1);
