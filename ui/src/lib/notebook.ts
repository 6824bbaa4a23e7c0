// Notebooks as links, files and the browser keep them: cells of SQL, PromQL and text. Plain SQL is kept as its text, as it
// was before there were other kinds.

export const CELL_KINDS = ['sql', 'promql', 'text'] as const;
export type CellKind = (typeof CELL_KINDS)[number];

export const DRAWS = ['line', 'bar', 'point'] as const;

/** What is drawn of a table, by names of its columns; what is not said is as usual. */
export interface ChartSpec {
  x?: string;
  y?: string[];
  /** A series for each combination of their values. */
  by?: string[];
  draw?: (typeof DRAWS)[number];
}

export interface CellSpec {
  kind: CellKind;
  text: string;
  /** How the answer is shown, where that is not as usual: SQL is a table, PromQL a chart. */
  view?: 'chart' | 'table';
  /** Of SQL. */
  chart?: ChartSpec;
  /** Of PromQL: at the end of the range, instead of over it. */
  instant?: boolean;
  folded?: boolean;
}

export type StoredCell = string | CellSpec;

export const MOST_CELLS = 30;
const LONGEST = 20_000;
const MOST_COLUMNS = 50;

const oneOf = <T extends string>(value: unknown, choices: readonly T[]): T | undefined =>
  choices.includes(value as T) ? (value as T) : undefined;

const names = (value: unknown): string[] | undefined =>
  Array.isArray(value)
    ? value.filter((name): name is string => typeof name === 'string' && name.length <= 1000).slice(0, MOST_COLUMNS)
    : undefined;

/** Without what is not there, so that links stay short. */
const clean = <T extends object>(whole: T): T =>
  Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== undefined && value !== false)) as T;

function chartOf(value: unknown): ChartSpec | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { x, y, by, draw } = value as Record<string, unknown>;
  const chart = clean<ChartSpec>({
    x: names([x])?.[0],
    y: names(y),
    by: names(by),
    draw: oneOf(draw, DRAWS),
  });
  return Object.keys(chart).length > 0 ? chart : undefined;
}

/** A cell of a link or a file; null where it is none. */
export function parseCell(value: unknown): CellSpec | null {
  if (typeof value === 'string' || typeof value === 'number') {
    const text = String(value);
    return text !== '' && text.length <= LONGEST ? { kind: 'sql', text } : null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { kind, text, view, chart, instant, folded } = value as Record<string, unknown>;
  const known = oneOf(kind, CELL_KINDS);
  if (!known || typeof text !== 'string' || text === '' || text.length > LONGEST) return null;
  return clean<CellSpec>({
    kind: known,
    text,
    view: known === 'text' ? undefined : oneOf(view, ['chart', 'table'] as const),
    chart: known === 'sql' ? chartOf(chart) : undefined,
    instant: known === 'promql' && instant === true,
    folded: folded === true,
  });
}

export const parseCells = (value: unknown): CellSpec[] =>
  (Array.isArray(value) ? value : [value])
    .map(parseCell)
    .filter((cell) => cell !== null)
    .slice(0, MOST_CELLS);

/** As it is kept. */
export function storedCell({ kind, text, view, chart, instant, folded }: CellSpec): StoredCell {
  const cell = clean<CellSpec>({ kind, text, view, chart, instant, folded });
  return kind === 'sql' && Object.keys(cell).length === 2 ? text : cell;
}

/** Cells without text are nothing to keep. */
export const storedCells = (cells: CellSpec[]): StoredCell[] =>
  cells.filter((cell) => cell.text.trim() !== '').map(storedCell);

const VERSION = 1;

/** A notebook as a file. */
export const notebookFile = (name: string, cells: StoredCell[]): string =>
  `${JSON.stringify({ pharos: 'notebook', version: VERSION, ...(name ? { name } : {}), cells }, null, 2)}\n`;

/** A file as a notebook; throws what is wrong with it, in words for whoever chose it. */
export function readNotebook(text: string): { name: string | undefined; cells: StoredCell[] } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('This is no notebook: it is not JSON.');
  }
  const { pharos, version, name, cells } = (value ?? {}) as Record<string, unknown>;
  if (pharos !== 'notebook') throw new Error('This is no notebook: it does not say so in "pharos".');
  if (typeof version !== 'number' || version > VERSION)
    throw new Error(`This notebook is of version ${String(version)}; version ${VERSION} is the newest known here.`);
  const list = Array.isArray(cells) ? cells : [];
  if (list.length > MOST_CELLS) throw new Error(`It has ${list.length} cells; ${MOST_CELLS} is the most.`);
  const read = list.map(parseCell);
  const wrong = read.indexOf(null);
  if (wrong >= 0) throw new Error(`Cell ${wrong + 1} is none of SQL, PromQL and text, is empty, or is too long.`);
  if (read.length === 0) throw new Error('It has no cells.');
  return {
    name: typeof name === 'string' && name.trim() !== '' ? name.trim().slice(0, 100) : undefined,
    cells: storedCells(read.filter((cell) => cell !== null)),
  };
}
