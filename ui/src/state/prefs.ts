// What a person chose for this browser: theme, density, zone, width of the rail, queries asked before.

import { create } from 'zustand';
import { persist } from 'zustand/middleware';

export type Theme = 'system' | 'dark' | 'light';

interface Prefs {
  theme: Theme;
  density: 'compact' | 'roomy';
  utc: boolean;
  railOpen: boolean;
  history: string[];
  starred: string[];
  recent: { uid: string; title: string }[];
  set: (change: Partial<Omit<Prefs, 'set' | 'remember' | 'star' | 'visited'>>) => void;
  remember: (query: string) => void;
  star: (uid: string) => void;
  visited: (uid: string, title: string) => void;
}

const HISTORY_KEPT = 50;
const RECENT_KEPT = 8;

export const usePrefs = create<Prefs>()(
  persist(
    (set) => ({
      theme: 'system',
      density: 'compact',
      utc: false,
      railOpen: false,
      history: [],
      starred: [],
      recent: [],
      set: (change) => set(change),
      remember: (query) =>
        set((old) => ({ history: [query, ...old.history.filter((q) => q !== query)].slice(0, HISTORY_KEPT) })),
      star: (uid) =>
        set((old) => ({
          starred: old.starred.includes(uid) ? old.starred.filter((u) => u !== uid) : [...old.starred, uid],
        })),
      visited: (uid, title) =>
        set((old) => ({ recent: [{ uid, title }, ...old.recent.filter((r) => r.uid !== uid)].slice(0, RECENT_KEPT) })),
    }),
    { name: 'pharos.prefs', version: 1 },
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
