// From a document to what is shown: rows fold, panels and rows repeat for the values of a variable, and everything below
// moves to where it then belongs.

import { COLUMNS, type GridPlace, MAX_REPEATS, type Panel, sections } from './model';
import { ALL, type Chosen, type Scope } from './variables';

export interface Shown {
  /** The panel's id, and which copy it is. */
  key: string;
  panel: Panel;
  grid: GridPlace;
  /** Variables that have one value in this copy. */
  own: Scope;
}

export interface Laid {
  panels: Shown[];
  /** Copies that were not made because they are too many. */
  leftOut: number;
}

/** The values that a panel repeats for. */
function valuesFor(name: string, scope: Scope): { values: string[]; chosen: Chosen } | null {
  const chosen = scope[name];
  if (!chosen || Array.isArray(chosen)) return null;
  const values = chosen.values.includes(ALL) ? chosen.options : chosen.values;
  return { values, chosen };
}

const one = (chosen: Chosen, value: string): Chosen => ({ ...chosen, values: [value] });

export function layOut(panels: Panel[], scope: Scope, folded: ReadonlySet<string>): Laid {
  const out: Shown[] = [];
  let leftOut = 0;
  let y = 0;
  const cut = (values: string[]): string[] => {
    leftOut += Math.max(0, values.length - MAX_REPEATS);
    return values.slice(0, MAX_REPEATS);
  };

  const place = (members: Panel[], own: Scope, suffix: string): void => {
    if (members.length === 0) return;
    const top = Math.min(...members.map((p) => p.grid.y));
    const sorted = [...members].sort((a, b) => a.grid.y - b.grid.y || a.grid.x - b.grid.x);
    // By how much what begins at or below a height has moved down.
    const moves: { from: number; by: number }[] = [];
    const moved = (at: number): number => moves.reduce((sum, m) => (at >= m.from ? sum + m.by : sum), 0);
    let bottom = y;
    for (const panel of sorted) {
      const at = y + (panel.grid.y - top) + moved(panel.grid.y);
      const repeated = panel.repeat && valuesFor(panel.repeat.variable, { ...scope, ...own });
      if (!panel.repeat || !repeated || repeated.values.length === 0) {
        out.push({ key: `${panel.id}${suffix}`, panel, own, grid: { ...panel.grid, y: at } });
        bottom = Math.max(bottom, at + panel.grid.h);
        continue;
      }
      const values = cut(repeated.values);
      const across = panel.repeat.vertical ? 1 : Math.min(values.length, Math.max(1, panel.repeat.perRow ?? 4));
      const width = panel.repeat.vertical ? panel.grid.w : Math.floor(COLUMNS / across);
      values.forEach((value, i) => {
        const line = Math.floor(i / across);
        const grid = {
          x: panel.repeat!.vertical ? panel.grid.x : (i % across) * width,
          y: at + line * panel.grid.h,
          w: width,
          h: panel.grid.h,
        };
        out.push({
          key: `${panel.id}${suffix}:${value}`,
          panel,
          grid,
          own: { ...own, [panel.repeat!.variable]: one(repeated.chosen, value) },
        });
        bottom = Math.max(bottom, grid.y + grid.h);
      });
      const added = (Math.ceil(values.length / across) - 1) * panel.grid.h;
      if (added > 0) moves.push({ from: panel.grid.y + panel.grid.h, by: added });
    }
    y = bottom;
  };

  for (const { row, panels: members } of sections(panels)) {
    if (!row) {
      place(members, {}, '');
      continue;
    }
    const repeated = row.repeat && valuesFor(row.repeat.variable, scope);
    const copies = row.repeat && repeated && repeated.values.length > 0 ? cut(repeated.values) : [null];
    for (const value of copies) {
      const own: Scope =
        value === null || !row.repeat || !repeated ? {} : { [row.repeat.variable]: one(repeated.chosen, value) };
      const suffix = value === null ? '' : `:${value}`;
      out.push({ key: `${row.id}${suffix}`, panel: row, own, grid: { x: 0, y, w: COLUMNS, h: 1 } });
      y += 1;
      if (!folded.has(`${row.id}${suffix}`)) place(members, own, suffix);
    }
  }
  return { panels: out, leftOut };
}
