// Time ranges as people write them (`now-6h`, `now/d`, a date, milliseconds), and moments as people read them. What the
// address holds is the text; what queries get are milliseconds.

export interface RangeText {
  from: string;
  to: string;
}

export interface Range {
  from: number;
  to: number;
}

const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

export const DEFAULT_RANGE: RangeText = { from: 'now-1h', to: 'now' };

export const QUICK_RANGES: { label: string; from: string; to: string }[] = [
  { label: 'Last 5 minutes', from: 'now-5m', to: 'now' },
  { label: 'Last 15 minutes', from: 'now-15m', to: 'now' },
  { label: 'Last 30 minutes', from: 'now-30m', to: 'now' },
  { label: 'Last 1 hour', from: 'now-1h', to: 'now' },
  { label: 'Last 3 hours', from: 'now-3h', to: 'now' },
  { label: 'Last 6 hours', from: 'now-6h', to: 'now' },
  { label: 'Last 12 hours', from: 'now-12h', to: 'now' },
  { label: 'Last 24 hours', from: 'now-24h', to: 'now' },
  { label: 'Last 2 days', from: 'now-2d', to: 'now' },
  { label: 'Last 7 days', from: 'now-7d', to: 'now' },
  { label: 'Last 30 days', from: 'now-30d', to: 'now' },
  { label: 'Today so far', from: 'now/d', to: 'now' },
  { label: 'Yesterday', from: 'now-1d/d', to: 'now/d' },
  { label: 'This week so far', from: 'now/w', to: 'now' },
];

/** A duration such as `90s`, `1h30m`, `1.5d`; in milliseconds, or null. */
export function parseDuration(text: string): number | null {
  const whole = text.trim();
  if (whole === '') return null;
  let rest = whole;
  let total = 0;
  while (rest !== '') {
    const part = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)/.exec(rest);
    if (!part) return null;
    total += Number(part[1]) * (part[2] === 'y' ? 365 * 86_400_000 : UNIT_MS[part[2]!]!);
    rest = rest.slice(part[0].length);
  }
  return Number.isFinite(total) ? total : null;
}

/** The shortest exact way to write a duration for PromQL. */
export function formatDuration(ms: number): string {
  if (ms <= 0) return '0s';
  let rest = Math.round(ms);
  let text = '';
  for (const [unit, size] of [
    ['d', UNIT_MS.d!],
    ['h', UNIT_MS.h!],
    ['m', UNIT_MS.m!],
    ['s', UNIT_MS.s!],
    ['ms', 1],
  ] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) {
      text += `${count}${unit}`;
      rest -= count * size;
    }
  }
  return text;
}

/** Whose clocks are read: `local` of the browser, `utc`, or a name such as `Europe/Berlin`. */
export type Zone = string;

let page: Zone = 'utc';

/** The zone of the page, for values that are times. */
export const pageZone = (): Zone => page;
export const setPageZone = (zone: Zone): void => {
  page = zone;
};

/** Clocks change at quarters of an hour: what holds at the start of one holds in all of it. */
const QUARTER_MS = 900_000;
const MOST_OFFSETS = 20_000;
const offsets = new Map<string, number>();
const clocks = new Map<Zone, Intl.DateTimeFormat | null>();

function clockOf(zone: Zone): Intl.DateTimeFormat | null {
  let clock = clocks.get(zone);
  if (clock === undefined) {
    try {
      clock = new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'longOffset' });
    } catch {
      clock = null;
    }
    clocks.set(zone, clock);
  }
  return clock;
}

export const isZone = (name: string): boolean => name === 'local' || name === 'utc' || clockOf(name) !== null;

/** How far clocks are ahead of UTC at a moment. A name that is no zone is UTC. */
export function zoneOffset(ms: number, zone: Zone): number {
  if (zone === 'utc' || Number.isNaN(ms)) return 0;
  if (zone === 'local') return -new Date(ms).getTimezoneOffset() * 60_000;
  const quarter = Math.floor(ms / QUARTER_MS);
  const key = zone + quarter;
  let offset = offsets.get(key);
  if (offset === undefined) {
    const text = clockOf(zone)?.format(quarter * QUARTER_MS) ?? '';
    const part = /GMT([+-])(\d\d):(\d\d)(?::(\d\d))?$/.exec(text);
    const seconds = part ? Number(part[2]) * 3600 + Number(part[3]) * 60 + Number(part[4] ?? 0) : 0;
    offset = (part?.[1] === '-' ? -seconds : seconds) * 1000;
    if (offsets.size >= MOST_OFFSETS) offsets.clear();
    offsets.set(key, offset);
  }
  return offset;
}

/** What the zone's clocks show, as if they were UTC's. */
const wallOf = (ms: number, zone: Zone): number => ms + zoneOffset(ms, zone);

/** The moment at which clocks show this: the first of two; of a time that was left out, as long after the change. */
function momentOf(wall: number, zone: Zone): number {
  const before = wall - zoneOffset(wall - UNIT_MS.d!, zone);
  const after = wall - zoneOffset(wall + UNIT_MS.d!, zone);
  return wallOf(before, zone) !== wall && wallOf(after, zone) === wall ? after : before;
}

/** A date whose local parts are those of the zone, as uPlot wants it. */
export const zonedDate = (ms: number, zone: Zone): Date => new Date(momentOf(wallOf(ms, zone), 'local'));

/** Round times of the zone's clocks in a range, `step` apart. */
export function roundTimes({ from, to }: Range, step: number, zone: Zone): number[] {
  const out: number[] = [];
  for (let wall = Math.ceil(wallOf(from, zone) / step) * step; wall <= wallOf(to, zone); wall += step) {
    const at = momentOf(wall, zone);
    if (at >= from && at <= to && at !== out.at(-1)) out.push(at);
  }
  return out;
}

/** Days, weeks, months and years are those of the calendar, also over a change of the clock. */
function shift(ms: number, amount: number, unit: string, zone: Zone): number {
  const unitMs = UNIT_MS[unit];
  if (unitMs && unitMs < UNIT_MS.d!) return ms + amount * unitMs;
  const date = new Date(wallOf(ms, zone));
  if (unitMs) date.setTime(date.getTime() + amount * unitMs);
  else {
    const day = date.getUTCDate();
    date.setUTCMonth(date.getUTCMonth() + amount * (unit === 'y' ? 12 : 1));
    // A month that is too short ends with its last day.
    if (date.getUTCDate() !== day) date.setUTCDate(0);
  }
  return momentOf(date.getTime(), zone);
}

function startOf(ms: number, unit: string, zone: Zone): number {
  const wall = wallOf(ms, zone);
  const unitMs = UNIT_MS[unit];
  // An hour that clocks show twice has two starts.
  if (unitMs && unitMs < UNIT_MS.d!) return ms - (((wall % unitMs) + unitMs) % unitMs);
  const date = new Date(wall);
  if (unit === 'w') date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7));
  if (unit === 'M' || unit === 'y') date.setUTCDate(1);
  if (unit === 'y') date.setUTCMonth(0);
  return momentOf(date.setUTCHours(0, 0, 0, 0), zone);
}

/** A moment in milliseconds, or null where the text is none. */
export function parseMoment(text: string, now: number, zone: Zone): number | null {
  const trimmed = text.trim();
  if (/^\d{10}(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  if (/^\d{12,14}$/.test(trimmed)) return Number(trimmed);
  if (trimmed.startsWith('now')) {
    let at = now;
    let rest = trimmed.slice(3);
    while (rest !== '') {
      const part = /^(?:([+-])(\d{1,6})(ms|[smhdwMy])|\/([smhdwMy]))/.exec(rest);
      if (!part) return null;
      at = part[4] ? startOf(at, part[4], zone) : shift(at, Number(part[1]! + part[2]), part[3]!, zone);
      rest = rest.slice(part[0].length);
    }
    return Number.isFinite(at) ? at : null;
  }
  const date =
    /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?)?(?: ?(?:(Z)|([+-]\d{2}):?(\d{2})))?$/.exec(
      trimmed,
    );
  if (!date) return null;
  const [year, month, day, hour, minute, second] = [1, 2, 3, 4, 5, 6].map((i) => Number(date[i] ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || minute > 59 || second > 59) return null;
  const wall = Date.UTC(year, month - 1, day, hour, minute, second, Number((date[7] ?? '').padEnd(3, '0')));
  if (date[8]) return wall;
  if (date[9]) return wall - (Number(date[9]) * 60 + Number(date[9][0] + date[10]!)) * 60_000;
  return momentOf(wall, zone);
}

/** Both ends, the earlier first. Text that is no range falls back to the default, so that a broken link still opens. */
export function resolveRange(text: RangeText, now: number, zone: Zone): Range {
  const from = parseMoment(text.from, now, zone);
  const to = parseMoment(text.to, now, zone);
  if (from === null || to === null || from === to) return { from: now - 3_600_000, to: now };
  return from < to ? { from, to } : { from: to, to: from };
}

export const isRelative = (range: RangeText): boolean => range.from.includes('now') || range.to.includes('now');

/** A step that gives about `points` points and is a round number people know. */
export function niceStep(range: Range, points: number, least = 1000): number {
  const wanted = Math.max((range.to - range.from) / Math.max(points, 1), least);
  const steps = [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
  ];
  for (const step of steps) if (step * 1000 >= wanted) return step * 1000;
  return Math.ceil(wanted / 86_400_000) * 86_400_000;
}

const pad = (n: number): string => String(n).padStart(2, '0');

/** `2026-11-28 09:41:07`, in 24 hours. */
export function formatMoment(ms: number, zone: Zone, withMillis = false): string {
  const date = new Date(wallOf(ms, zone));
  if (Number.isNaN(date.getTime())) return 'no time';
  return date
    .toISOString()
    .slice(0, withMillis ? -1 : -5)
    .replace('T', ' ');
}

/** `UTC`, `UTC+2`, `UTC-03:30`. */
export function zoneName(zone: Zone, at = Date.now()): string {
  const minutes = Math.round(zoneOffset(at, zone) / 60_000);
  if (minutes === 0) return 'UTC';
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? '-' : '+'}${rest === 0 ? hours : `${pad(hours)}:${pad(rest)}`}`;
}

/** A named zone by its city, which clocks of other places may share. */
export const zoneTitle = (zone: Zone, at?: number): string =>
  zone === 'local' || zone === 'utc'
    ? zoneName(zone, at)
    : `${zone.slice(zone.lastIndexOf('/') + 1).replaceAll('_', ' ')}, ${zoneName(zone, at)}`;

/** What stands on the time button. */
export function describeRange(range: RangeText, zone: Zone): string {
  const quick = QUICK_RANGES.find((q) => q.from === range.from && q.to === range.to);
  if (quick) return quick.label;
  const show = (text: string): string => {
    if (text.includes('now')) return text;
    const ms = parseMoment(text, 0, zone);
    return ms === null ? text : formatMoment(ms, zone);
  };
  return `${show(range.from)} → ${show(range.to)}`;
}

/** `3.2 s ago`, `4 min ago`; for moments near now. */
export function formatAgo(ms: number, now: number): string {
  const seconds = Math.max(0, (now - ms) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}
