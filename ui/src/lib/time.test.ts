import { describe, expect, it } from 'vitest';
import {
  describeRange,
  formatDuration,
  formatMoment,
  niceStep,
  parseDuration,
  parseMoment,
  resolveRange,
} from './time';

// A Saturday.
const NOW = Date.UTC(2026, 10, 28, 9, 41, 7, 250);
const utc = (text: string) => {
  const ms = parseMoment(text, NOW, true);
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
    expect(resolveRange({ from: 'now', to: 'now-1h' }, NOW, true)).toEqual({ from: NOW - 3_600_000, to: NOW });
  });
  it('opens with the last hour when the link is broken', () => {
    expect(resolveRange({ from: 'junk', to: 'now' }, NOW, true)).toEqual({ from: NOW - 3_600_000, to: NOW });
  });
  it('is described in words or by both ends', () => {
    expect(describeRange({ from: 'now-6h', to: 'now' }, true)).toBe('Last 6 hours');
    expect(describeRange({ from: String(NOW), to: 'now' }, true)).toBe('2026-11-28 09:41:07 → now');
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
  expect(formatMoment(Date.UTC(2026, 0, 2, 23, 5, 9), true)).toBe('2026-01-02 23:05:09');
  expect(formatMoment(Number.NaN, true)).toBe('no time');
});
