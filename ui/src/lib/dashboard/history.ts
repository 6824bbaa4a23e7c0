// Undo and redo. A state is the whole document: documents are small, and whole ones can not be put together wrongly.
// Changes of the same kind in quick succession, such as typing a title, are one step; so is all that is changed while a
// dialog is open, however long that is.

export interface Edits<T> {
  past: T[];
  now: T;
  future: T[];
  /** What the last step was of, and when. */
  last: { what: string; at: number } | null;
}

const KEPT = 100;
const SAME_STEP_MS = 1500;

export const begin = <T>(now: T): Edits<T> => ({ past: [], now, future: [], last: null });

/** Takes a change. It joins the last step if that was of the same and less than `joinMs` before. */
export function edit<T>(edits: Edits<T>, next: T, what: string, at: number, joinMs = SAME_STEP_MS): Edits<T> {
  if (next === edits.now) return edits;
  const joined =
    edits.last !== null && edits.last.what === what && at - edits.last.at < joinMs && edits.past.length > 0;
  return {
    past: joined ? edits.past : [...edits.past, edits.now].slice(-KEPT),
    now: next,
    future: [],
    last: { what, at },
  };
}

export function undo<T>(edits: Edits<T>): Edits<T> {
  const before = edits.past.at(-1);
  if (before === undefined) return edits;
  return { past: edits.past.slice(0, -1), now: before, future: [edits.now, ...edits.future], last: null };
}

export function redo<T>(edits: Edits<T>): Edits<T> {
  const [next, ...rest] = edits.future;
  if (next === undefined) return edits;
  return { past: [...edits.past, edits.now], now: next, future: rest, last: null };
}
