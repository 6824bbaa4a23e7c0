// What a person chose for this browser: theme, density, zone, width of the rail, queries asked before.

import { create } from 'zustand';
import { persist } from 'zustand/middleware';
import type { Zone } from '../lib/time';

export type Theme = 'system' | 'dark' | 'light';

interface Prefs {
  theme: Theme;
  density: 'compact' | 'roomy';
  /** Whose clocks are read, as `tz` of an address says it. */
  zone: Zone;
  railOpen: boolean;
  history: string[];
  starred: string[];
  /** Tenants whose data was asked for by name. */
  tenants: string[];
  recent: { uid: string; title: string }[];
  set: (change: Partial<Omit<Prefs, 'set' | 'remember' | 'star' | 'visited' | 'met'>>) => void;
  remember: (query: string) => void;
  star: (uid: string) => void;
  visited: (uid: string, title: string) => void;
  /** A tenant was named. */
  met: (tenant: string) => void;
}

const HISTORY_KEPT = 50;
const RECENT_KEPT = 8;
const TENANTS_KEPT = 50;

export const usePrefs = create<Prefs>()(
  persist(
    (set) => ({
      theme: 'system',
      density: 'compact',
      zone: 'local',
      railOpen: false,
      history: [],
      starred: [],
      tenants: [],
      recent: [],
      set: (change) => set(change),
      remember: (query) =>
        set((old) => ({ history: [query, ...old.history.filter((q) => q !== query)].slice(0, HISTORY_KEPT) })),
      star: (uid) =>
        set((old) => ({
          starred: old.starred.includes(uid) ? old.starred.filter((u) => u !== uid) : [...old.starred, uid],
        })),
      met: (tenant) =>
        set((old) => ({ tenants: [tenant, ...old.tenants.filter((t) => t !== tenant)].slice(0, TENANTS_KEPT) })),
      visited: (uid, title) =>
        set((old) => ({ recent: [{ uid, title }, ...old.recent.filter((r) => r.uid !== uid)].slice(0, RECENT_KEPT) })),
    }),
    {
      name: 'pharos.prefs',
      version: 2,
      // The first version knew two zones.
      migrate: (old) => {
        const { utc, ...rest } = old as Prefs & { utc?: boolean };
        return { ...rest, zone: utc ? 'utc' : 'local' };
      },
    },
  ),
);

let tenant: string | undefined;

/** The tenant of the page's address; requests outside components ask here. */
export const currentTenant = (): string | undefined => tenant;
export const setTenant = (name: string | undefined): void => {
  tenant = name;
};

/** The theme that is shown now. */
export function shownTheme(theme: Theme): 'dark' | 'light' {
  if (theme !== 'system') return theme;
  return matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
}
