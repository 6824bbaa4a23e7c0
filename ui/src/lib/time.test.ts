import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  describeRange,
  formatDuration,
  formatMoment,
  isZone,
  niceStep,
  parseDuration,
  parseMoment,
  resolveRange,
  roundTimes,
  zonedDate,
  zoneName,
  zoneTitle,
} from './time';

// A Saturday.
const NOW = Date.UTC(2026, 10, 28, 9, 41, 7, 250);
const utc = (text: string) => {
  const ms = parseMoment(text, NOW, 'utc');
  return ms === null ? null : new Date(ms).toISOString();
};

describe('moments', () => {
  it.each([
    ['now', '2026-11-28T09:41:07.250Z'],
    ['now-6h', '2026-11-28T03:41:07.250Z'],
    ['now-1h30m', null],
    ['now-1h-30m', '2026-11-28T08:11:07.250Z'],
    ['now+2d', '2026-11-30T09:41:07.250Z'],
    ['now/d', '2026-11-28T00:00:00.000Z'],
    ['now-1d/d', '2026-11-27T00:00:00.000Z'],
    ['now/w', '2026-11-23T00:00:00.000Z'],
    ['now/M', '2026-11-01T00:00:00.000Z'],
    ['now-1M/M', '2026-10-01T00:00:00.000Z'],
    ['now/y', '2026-01-01T00:00:00.000Z'],
    ['2026-11-28', '2026-11-28T00:00:00.000Z'],
    ['2026-11-28 09:00', '2026-11-28T09:00:00.000Z'],
    ['2026-11-28T09:00:05.125Z', '2026-11-28T09:00:05.125Z'],
    ['2026-11-28 09:00:05.5', '2026-11-28T09:00:05.500Z'],
    ['2026-11-28 09:00 +05:30', '2026-11-28T03:30:00.000Z'],
    ['2026-11-28T09:00:00-0330', '2026-11-28T12:30:00.000Z'],
    ['1764322867', '2025-11-28T09:41:07.000Z'],
    ['1764322867250', '2025-11-28T09:41:07.250Z'],
    ['yesterday', null],
    ['now-', null],
    ['now-5x', null],
    ['2026-13-01', null],
    ['', null],
  ])('%s', (text, expected) => expect(utc(text)).toBe(expected));
});

describe('ranges', () => {
  it('puts the earlier end first', () => {
    expect(resolveRange({ from: 'now', to: 'now-1h' }, NOW, 'utc')).toEqual({ from: NOW - 3_600_000, to: NOW });
  });
  it('opens with the last hour when the link is broken', () => {
    expect(resolveRange({ from: 'junk', to: 'now' }, NOW, 'utc')).toEqual({ from: NOW - 3_600_000, to: NOW });
  });
  it('is described in words or by both ends', () => {
    expect(describeRange({ from: 'now-6h', to: 'now' }, 'utc')).toBe('Last 6 hours');
    expect(describeRange({ from: String(NOW), to: 'now' }, 'utc')).toBe('2026-11-28 09:41:07 → now');
  });
});

describe('durations', () => {
  it.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['1.5d', 129_600_000],
    ['250ms', 250],
    ['', null],
    ['5', null],
    ['-5m', null],
    ['5m x', null],
  ])('%s', (text, expected) => expect(parseDuration(text)).toBe(expected));
  it.each([5000, 90_000, 5_400_000, 129_600_000, 1, 86_400_000])('%d is written and read back', (ms) =>
    expect(parseDuration(formatDuration(ms))).toBe(ms),
  );
});

it('steps are round and never too many', () => {
  for (const hours of [0.01, 1, 6, 24, 720, 100_000]) {
    const range = { from: 0, to: hours * 3_600_000 };
    const step = niceStep(range, 400);
    expect((range.to - range.from) / step).toBeLessThanOrEqual(400);
    expect(step % 1000).toBe(0);
  }
});

it('clocks have 24 hours', () => {
  expect(formatMoment(Date.UTC(2026, 0, 2, 23, 5, 9), 'utc')).toBe('2026-01-02 23:05:09');
  expect(formatMoment(Number.NaN, 'utc')).toBe('no time');
});

// Berlin leaves summer time on 2026-10-25 at 03:00, which is 02:00 again, and begins it on 2026-03-29 at 02:00.
const BERLIN = 'Europe/Berlin';
const at = (text: string, zone: string, now = NOW) => {
  const ms = parseMoment(text, now, zone);
  return ms === null ? null : new Date(ms).toISOString();
};

describe('named zones', () => {
  it.each([
    // An hour that clocks show twice: the first, unless its offset is said.
    ['2026-10-25 01:59', BERLIN, '2026-10-24T23:59:00.000Z'],
    ['2026-10-25 02:30', BERLIN, '2026-10-25T00:30:00.000Z'],
    ['2026-10-25 02:30 +01:00', BERLIN, '2026-10-25T01:30:00.000Z'],
    ['2026-10-25 03:00', BERLIN, '2026-10-25T02:00:00.000Z'],
    // An hour that they leave out.
    ['2026-03-29 01:59', BERLIN, '2026-03-29T00:59:00.000Z'],
    ['2026-03-29 02:30', BERLIN, '2026-03-29T01:30:00.000Z'],
    ['2026-03-29 03:00', BERLIN, '2026-03-29T01:00:00.000Z'],
    ['2026-11-01 01:30', 'America/New_York', '2026-11-01T05:30:00.000Z'],
    ['2026-03-08 02:15', 'America/New_York', '2026-03-08T07:15:00.000Z'],
    ['2026-07-01', 'Asia/Kolkata', '2026-06-30T18:30:00.000Z'],
    ['2026-07-01 12:00', 'Australia/Lord_Howe', '2026-07-01T01:30:00.000Z'],
    ['2026-07-01 12:00', 'No/Such_Place', '2026-07-01T12:00:00.000Z'],
  ])('%s in %s', (text, zone, expected) => expect(at(text, zone)).toBe(expected));

  it('counts days on the calendar, hours by the clock of physics', () => {
    const now = Date.UTC(2026, 9, 25, 11, 0);
    expect(formatMoment(now, BERLIN)).toBe('2026-10-25 12:00:00');
    expect(at('now-1d', BERLIN, now)).toBe('2026-10-24T10:00:00.000Z');
    expect(at('now-24h', BERLIN, now)).toBe('2026-10-24T11:00:00.000Z');
    expect(at('now/d', BERLIN, now)).toBe('2026-10-24T22:00:00.000Z');
    expect(at('now/w', BERLIN, now)).toBe('2026-10-18T22:00:00.000Z');
    expect(at('now/M', BERLIN, now)).toBe('2026-09-30T22:00:00.000Z');
    expect(at('now-1M', BERLIN, Date.UTC(2026, 2, 31, 8))).toBe('2026-02-28T09:00:00.000Z');
    expect(at('now+1y/y', BERLIN, now)).toBe('2026-12-31T23:00:00.000Z');
  });

  it('rounds within the hour that comes twice', () => {
    const second = Date.UTC(2026, 9, 25, 1, 40);
    expect(formatMoment(second, BERLIN)).toBe('2026-10-25 02:40:00');
    expect(at('now/h', BERLIN, second)).toBe('2026-10-25T01:00:00.000Z');
    expect(at('now/m', BERLIN, second)).toBe('2026-10-25T01:40:00.000Z');
  });

  it('shows each moment by the offset that holds then', () => {
    const change = Date.UTC(2026, 9, 25, 1, 0);
    expect(formatMoment(change - 1, BERLIN, true)).toBe('2026-10-25 02:59:59.999');
    expect(formatMoment(change, BERLIN, true)).toBe('2026-10-25 02:00:00.000');
    expect([change - 1, change].map((ms) => zoneName(BERLIN, ms))).toEqual(['UTC+2', 'UTC+1']);
    expect(zoneName('America/St_Johns', Date.UTC(2026, 0, 1))).toBe('UTC-03:30');
    expect(zoneTitle('America/New_York', Date.UTC(2026, 0, 1))).toBe('New York, UTC-5');
  });

  it('goes there and back at every quarter of an hour around the changes', () => {
    for (const [zone, change] of [
      [BERLIN, Date.UTC(2026, 9, 25, 1)],
      [BERLIN, Date.UTC(2026, 2, 29, 1)],
      ['Australia/Lord_Howe', Date.UTC(2026, 3, 4, 15)],
      ['America/Santiago', Date.UTC(2026, 8, 6, 4)],
    ] as const)
      for (let ms = change - 172_800_000; ms < change + 172_800_000; ms += 900_000) {
        const back = parseMoment(`${formatMoment(ms, zone)} ${offsetText(ms, zone)}`, NOW, zone);
        expect(back, `${zone} ${formatMoment(ms, zone)}`).toBe(ms);
        const plain = parseMoment(formatMoment(ms, zone), NOW, zone)!;
        expect(formatMoment(plain, zone)).toBe(formatMoment(ms, zone));
      }
  });

  it('has round marks for axes, across a change, too', () => {
    const range = { from: Date.UTC(2026, 9, 24, 20), to: Date.UTC(2026, 9, 25, 12) };
    const shown = roundTimes(range, 6 * 3_600_000, BERLIN).map((ms) => formatMoment(ms, BERLIN));
    expect(shown).toEqual(['2026-10-25 00:00:00', '2026-10-25 06:00:00', '2026-10-25 12:00:00']);
  });

  it('is known by name only where there is one', () => {
    expect(['local', 'utc', BERLIN, 'Etc/GMT+3'].map(isZone)).toEqual([true, true, true, true]);
    expect(['', 'Berlin', '<b>'].map(isZone)).toEqual([false, false, false]);
  });
});

const offsetText = (ms: number, zone: string): string => {
  const wall = new Date(`${formatMoment(ms, zone).replace(' ', 'T')}Z`).getTime();
  const minutes = Math.round((wall - ms) / 60_000);
  const two = (n: number) => String(Math.floor(n)).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(Math.abs(minutes) / 60)}:${two(Math.abs(minutes) % 60)}`;
};

describe('the zone of the browser', () => {
  const before = process.env.TZ;
  beforeAll(() => {
    process.env.TZ = BERLIN;
  });
  afterAll(() => {
    process.env.TZ = before;
  });
  it('is as it is by its name', () => {
    expect(new Date(2026, 6, 1).toISOString()).toBe('2026-06-30T22:00:00.000Z');
    for (const text of ['2026-10-25 02:30', '2026-03-29 02:30', '2026-07-01', 'now-1d/d', 'now-2M/M', 'now/w'])
      for (const now of [NOW, Date.UTC(2026, 9, 25, 11), Date.UTC(2026, 2, 29, 11)])
        expect(parseMoment(text, now, 'local')).toBe(parseMoment(text, now, BERLIN));
    expect(formatMoment(NOW, 'local')).toBe(formatMoment(NOW, BERLIN));
  });
  it('lends its dates to charts of another zone', () => {
    const date = zonedDate(Date.UTC(2026, 6, 1, 20, 15), 'Asia/Tokyo');
    expect([date.getDate(), date.getHours(), date.getMinutes()]).toEqual([2, 5, 15]);
  });
});
