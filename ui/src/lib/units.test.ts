import { expect, it } from 'vitest';
import { formatCount, formatValue } from './units';

it.each([
  [0, 'short', '0'],
  [1234.5, 'short', '1.23 k'],
  [999.96, 'short', '1 k'],
  [-2_500_000, 'short', '-2.5 M'],
  [0.00012, 'short', '0.00012'],
  [1536, 'bytes', '1.5 KiB'],
  [1500, 'decbytes', '1.5 kB'],
  [1_048_576, 'binBps', '1 MiB/s'],
  [0.25, 'percentunit', '25 %'],
  [0.0034, 's', '3.4 ms'],
  [90_000, 's', '25 h'],
  [1500, 'ms', '1.5 s'],
  [12, 'reqps', '12 req/s'],
  [21.5, 'celsius', '21.5 °C'],
  [1, 'bool', 'True'],
  [7, 'suffix:pods', '7 pods'],
  [7, 'a unit nobody knows', '7'],
  [Number.NaN, 'bytes', 'NaN'],
  [Number.POSITIVE_INFINITY, 's', '+Inf'],
  [null, 's', '–'],
] as [number | null, string, string][])('%s as %s', (value, unit, expected) =>
  expect(formatValue(value, unit)).toBe(expected),
);

it('keeps the decimals that were asked for', () => {
  expect(formatValue(1.23456, 'none', 2)).toBe('1.23');
  expect(formatValue(1234, 'short', 0)).toBe('1 k');
  expect(formatCount(1234567)).toBe('1 234 567');
});
