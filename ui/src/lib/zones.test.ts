import { expect, it } from 'vitest';
import { allZones, findZones } from './zones';

const SUMMER = Date.UTC(2026, 6, 1, 12, 5);
const WINTER = Date.UTC(2026, 0, 1, 12, 5);

it.each([
  ['berlin', ['Europe/Berlin']],
  ['new york', ['America/New_York']],
  ['america/new_york', ['America/New_York']],
  ['utc', ['utc']],
  ['kolkata', ['Asia/Kolkata']],
  ['kyiv', ['Europe/Kyiv']],
  ['US/Eastern', ['US/Eastern']],
  ['US/Nowhere', []],
  ['lord +10:30', ['Australia/Lord_Howe']],
  ['nowhere at all', []],
])('%s', (find, expected) => expect(findZones(allZones(), find, SUMMER)).toEqual(expected));

it('finds by the offset that holds at the time, and by what clocks show', () => {
  const zones = ['utc', 'Europe/Berlin', 'Asia/Kolkata', 'America/St_Johns'];
  expect(findZones(zones, '+2', SUMMER)).toEqual(['Europe/Berlin']);
  expect(findZones(zones, 'UTC+02:00', SUMMER)).toEqual(['Europe/Berlin']);
  expect(findZones(zones, '+2', WINTER)).toEqual([]);
  expect(findZones(zones, '+5:30', WINTER)).toEqual(['Asia/Kolkata']);
  expect(findZones(zones, '-3:30', WINTER)).toEqual(['America/St_Johns']);
  expect(findZones(zones, '14:05', SUMMER)).toEqual(['Europe/Berlin']);
});
