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

function shift(date: Date, amount: number, unit: string, utc: boolean): void {
  if (unit === 'M') {
    utc ? date.setUTCMonth(date.getUTCMonth() + amount) : date.setMonth(date.getMonth() + amount);
  } else if (unit === 'y') {
    utc ? date.setUTCFullYear(date.getUTCFullYear() + amount) : date.setFullYear(date.getFullYear() + amount);
  } else if (unit === 'd' && !utc) {
    // A day over a change of the clock is a day on the calendar.
    date.setDate(date.getDate() + amount);
  } else {
    date.setTime(date.getTime() + amount * UNIT_MS[unit]!);
  }
}

function startOf(date: Date, unit: string, utc: boolean): void {
  const set = (month: number, day: number, hour: number, minute: number, second: number) => {
    if (utc) {
      date.setUTCMonth(month, day);
      date.setUTCHours(hour, minute, second, 0);
    } else {
      date.setMonth(month, day);
      date.setHours(hour, minute, second, 0);
    }
  };
  const [month, day, hour, minute, second, week] = utc
    ? [
        date.getUTCMonth(),
        date.getUTCDate(),
        date.getUTCHours(),
        date.getUTCMinutes(),
        date.getUTCSeconds(),
        date.getUTCDay(),
      ]
    : [date.getMonth(), date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds(), date.getDay()];
  if (unit === 's') set(month, day, hour, minute, second);
  else if (unit === 'm') set(month, day, hour, minute, 0);
  else if (unit === 'h') set(month, day, hour, 0, 0);
  else if (unit === 'd') set(month, day, 0, 0, 0);
  else if (unit === 'w') set(month, day - ((week + 6) % 7), 0, 0, 0);
  else if (unit === 'M') set(month, 1, 0, 0, 0);
  else if (unit === 'y') set(0, 1, 0, 0, 0);
}

/** A moment in milliseconds, or null where the text is none. `end` says that a rounding goes to the end of the unit. */
export function parseMoment(text: string, now: number, utc: boolean): number | null {
  const trimmed = text.trim();
  if (/^\d{10}(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  if (/^\d{12,14}$/.test(trimmed)) return Number(trimmed);
  if (trimmed.startsWith('now')) {
    const date = new Date(now);
    let rest = trimmed.slice(3);
    while (rest !== '') {
      const part = /^([+-])(\d{1,6})(ms|[smhdwMy])/.exec(rest);
      const round = /^\/([smhdwMy])/.exec(rest);
      if (part) {
        shift(date, Number(part[2]) * (part[1] === '-' ? -1 : 1), part[3]!, utc);
        rest = rest.slice(part[0].length);
      } else if (round) {
        startOf(date, round[1]!, utc);
        rest = rest.slice(round[0].length);
      } else {
        return null;
      }
    }
    return Number.isFinite(date.getTime()) ? date.getTime() : null;
  }
  const date = /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?)?(Z)?$/.exec(trimmed);
  if (!date) return null;
  const [year, month, day, hour, minute, second, milli] = [1, 2, 3, 4, 5, 6, 7].map((i) => Number(date[i] ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || minute > 59 || second > 59) return null;
  const parts = [year, month - 1, day, hour, minute, second, milli] as const;
  return utc || date[8] ? Date.UTC(...parts) : new Date(...parts).getTime();
}

/** Both ends, the earlier first. Text that is no range falls back to the default, so that a broken link still opens. */
export function resolveRange(text: RangeText, now: number, utc: boolean): Range {
  const from = parseMoment(text.from, now, utc);
  const to = parseMoment(text.to, now, utc);
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

const pad = (n: number, width = 2): string => String(n).padStart(width, '0');

/** `2026-11-28 09:41:07`, in 24 hours. */
export function formatMoment(ms: number, utc: boolean, withMillis = false): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return 'no time';
  const [y, mo, d, h, mi, s, milli] = utc
    ? [
        date.getUTCFullYear(),
        date.getUTCMonth(),
        date.getUTCDate(),
        date.getUTCHours(),
        date.getUTCMinutes(),
        date.getUTCSeconds(),
        date.getUTCMilliseconds(),
      ]
    : [
        date.getFullYear(),
        date.getMonth(),
        date.getDate(),
        date.getHours(),
        date.getMinutes(),
        date.getSeconds(),
        date.getMilliseconds(),
      ];
  const base = `${pad(y, 4)}-${pad(mo + 1)}-${pad(d)} ${pad(h)}:${pad(mi)}:${pad(s)}`;
  return withMillis ? `${base}.${pad(milli, 3)}` : base;
}

/** `UTC`, `UTC+2`, `UTC-03:30`. */
export function zoneName(utc: boolean, at = Date.now()): string {
  if (utc) return 'UTC';
  const minutes = -new Date(at).getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? '-' : '+'}${rest === 0 ? hours : `${pad(hours)}:${pad(rest)}`}`;
}

/** What stands on the time button. */
export function describeRange(range: RangeText, utc: boolean): string {
  const quick = QUICK_RANGES.find((q) => q.from === range.from && q.to === range.to);
  if (quick) return quick.label;
  const show = (text: string): string => {
    if (text.includes('now')) return text;
    const ms = parseMoment(text, 0, utc);
    return ms === null ? text : formatMoment(ms, utc);
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
