import { beforeEach, expect, it, vi } from 'vitest';

beforeEach(() => {
  localStorage.clear();
  vi.resetModules();
});

it.each([
  [true, 'utc'],
  [false, 'local'],
])('what the first version kept is kept on: UTC %s is the zone %s', async (utc, zone) => {
  localStorage.setItem('pharos.prefs', JSON.stringify({ state: { theme: 'light', utc, starred: ['a'] }, version: 1 }));
  const { usePrefs } = await import('./prefs');
  const prefs = usePrefs.getState();
  expect([prefs.zone, prefs.theme, prefs.starred, prefs.tenants]).toEqual([zone, 'light', ['a'], []]);
  expect('utc' in prefs).toBe(false);
});

it('tenants that were named are kept, the last one first', async () => {
  const { usePrefs } = await import('./prefs');
  for (const name of ['a', 'b', 'a']) usePrefs.getState().met(name);
  expect(usePrefs.getState().tenants).toEqual(['a', 'b']);
});
