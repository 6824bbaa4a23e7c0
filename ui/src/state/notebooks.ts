// Notebooks of this browser: those that were saved by name, and the one that is written now.

import { create } from 'zustand';
import { persist } from 'zustand/middleware';
import type { StoredCell } from '../lib/notebook';

export interface Notebook {
  name: string;
  cells: StoredCell[];
  /** When it was saved, in milliseconds. */
  at: number;
}

interface Notebooks {
  saved: Notebook[];
  draft: StoredCell[];
  keep: (cells: StoredCell[]) => void;
  save: (name: string, cells: StoredCell[]) => void;
  remove: (name: string) => void;
}

const KEPT = 100;

export const useNotebooks = create<Notebooks>()(
  persist(
    (set) => ({
      saved: [],
      draft: [],
      keep: (draft) => set({ draft }),
      save: (name, cells) =>
        set((old) => ({
          saved: [{ name, cells, at: Date.now() }, ...old.saved.filter((n) => n.name !== name)].slice(0, KEPT),
        })),
      remove: (name) => set((old) => ({ saved: old.saved.filter((n) => n.name !== name) })),
    }),
    { name: 'pharos.notebooks', version: 1 },
  ),
);
