// What tells one version of a dashboard from another: panels by their ids, variables, annotations and links by their names,
// and of each the fields that differ, in words.

import { type Dashboard, LANGUAGE_NAMES, PANEL_KINDS, type Panel, type PanelQuery } from './model';

export interface FieldChange {
  field: string;
  /** Absent where there is none on that side. */
  before?: string;
  after?: string;
}

export interface Change {
  of: 'dashboard' | 'panel' | 'row' | 'variable' | 'annotation' | 'link';
  name: string;
  kind: 'added' | 'removed' | 'changed';
  fields: FieldChange[];
}

const NAMES: Record<string, string> = {
  grid: 'place',
  expr: 'query',
  url: 'address',
  initial: 'chosen at first',
  allValue: 'what "All" stands for',
  all: 'choice "All"',
  multi: 'several at once',
  regex: 'only those that match',
  off: 'off when it is opened',
  timeFrom: 'its own time',
  timeShift: 'shifted in time',
  min: 'from',
  max: 'to',
  stepped: 'steps instead of slopes',
  log: 'logarithmic',
  fill: 'fill',
  lineWidth: 'line width',
  showThresholds: 'thresholds as lines',
  colourBy: 'colour',
  reduce: 'of a series shown',
  noValue: 'shown without a value',
  oldestFirst: 'the oldest first',
  slowestFirst: 'the slowest first',
  chart: 'drawn as a chart',
  newTab: 'in a new tab',
  keepTime: 'takes the range along',
  keepVariables: 'takes variables along',
  time: 'range when it is opened',
  refresh: 'refreshes by itself',
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Values without what says nothing, so that a document from a file and one that was edited are alike. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  const known = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(known.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, v]) => [key, plain(v)]));
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(plain(a)) === JSON.stringify(plain(b));

function textOf(key: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (key === 'grid' && isObject(value)) return `column ${value.x}, line ${value.y}, ${value.w} × ${value.h}`;
  if (key === 'kind') return PANEL_KINDS.find((k) => k.id === value)?.label ?? String(value);
  if (key === 'time' && isObject(value)) return `${value.from} to ${value.to}`;
  if (key === 'language') return LANGUAGE_NAMES[value as PanelQuery['language'] & string] ?? String(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value.join(', ');
  return isObject(value) || Array.isArray(value) ? JSON.stringify(plain(value), null, 2) : String(value);
}

const named = (key: string): string => NAMES[key] ?? key.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);

type Fields = Record<string, unknown>;

function fieldsOf(before: Fields, after: Fields, but: string[] = [], of = ''): FieldChange[] {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => !but.includes(key));
  return keys
    .filter((key) => !same(before[key], after[key]))
    .map((key) => ({
      field: `${of}${named(key)}`,
      before: textOf(key, before[key]),
      after: textOf(key, after[key]),
    }));
}

function queryFields(before: PanelQuery[], after: PanelQuery[]): FieldChange[] {
  const refs = [...new Set([...before, ...after].map((q) => q.ref))];
  const out: FieldChange[] = [];
  for (const ref of refs) {
    const [a, b] = [before.find((q) => q.ref === ref), after.find((q) => q.ref === ref)];
    if (a?.expr !== b?.expr) out.push({ field: `query ${ref}`, before: a?.expr, after: b?.expr });
    out.push(...fieldsOf({ ...a }, { ...b }, ['ref', 'expr'], `query ${ref}, `));
  }
  return out;
}

function panelFields(before: Panel, after: Panel): FieldChange[] {
  return [
    ...fieldsOf({ ...before }, { ...after }, ['id', 'queries', 'options', 'grid']),
    ...queryFields(before.queries, after.queries),
    ...fieldsOf({ ...before.options }, { ...after.options }),
    ...fieldsOf({ grid: before.grid }, { grid: after.grid }),
  ];
}

/** Entries of a list by what they are called; of those that are called alike, the first by the first, and so on. */
function paired<T>(before: T[], after: T[], nameOf: (entry: T) => string): [T | undefined, T | undefined][] {
  const rest = [...after];
  const out: [T | undefined, T | undefined][] = before.map((entry) => {
    const at = rest.findIndex((other) => nameOf(other) === nameOf(entry));
    return [entry, at < 0 ? undefined : rest.splice(at, 1)[0]];
  });
  return [...out, ...rest.map((entry): [undefined, T] => [undefined, entry])];
}

function listChanges<T extends object>(
  of: Change['of'],
  before: T[],
  after: T[],
  nameOf: (entry: T) => string,
): Change[] {
  return paired(before, after, nameOf).flatMap(([a, b]): Change[] => {
    const fields = fieldsOf({ ...a } as Fields, { ...b } as Fields, a && b ? [] : ['name']);
    if (fields.length === 0) return [];
    return [{ of, name: nameOf((b ?? a)!), kind: !a ? 'added' : !b ? 'removed' : 'changed', fields }];
  });
}

const panelName = (panel: Panel): string =>
  panel.title || `${PANEL_KINDS.find((k) => k.id === panel.kind)?.label ?? panel.kind} ${panel.id}`;

export function compareDashboards(before: Dashboard, after: Dashboard): Change[] {
  const out: Change[] = [];
  const own = fieldsOf({ ...before }, { ...after }, ['format', 'panels', 'variables', 'annotations', 'links']);
  const order = (list: { name: string }[]): string[] => list.map((v) => v.name);
  const [a, b] = [order(before.variables), order(after.variables)];
  if (!same(a, b) && same([...a].sort(), [...b].sort()))
    own.push({ field: 'order of variables', before: a.join(', '), after: b.join(', ') });
  if (own.length > 0) out.push({ of: 'dashboard', name: after.title, kind: 'changed', fields: own });
  out.push(...listChanges('variable', before.variables, after.variables, (v) => v.name));
  for (const [x, y] of paired(before.panels, after.panels, (p) => p.id)) {
    const panel = (y ?? x)!;
    // Of one that is on one side only, what it has besides its name and place.
    const { id, kind, title, grid } = panel;
    const none: Panel = { id, kind, title, grid, queries: [], options: {} };
    const fields = panelFields(x ?? none, y ?? none);
    if (x && y && fields.length === 0) continue;
    out.push({
      of: panel.kind === 'row' ? 'row' : 'panel',
      name: panelName(panel),
      kind: !x ? 'added' : !y ? 'removed' : 'changed',
      fields,
    });
  }
  out.push(...listChanges('annotation', before.annotations, after.annotations, (v) => v.name));
  out.push(...listChanges('link', before.links ?? [], after.links ?? [], (v) => v.title || v.url));
  return out;
}

export interface Piece {
  text: string;
  kind: 'same' | 'cut' | 'new';
}

/** Words above which a text is not taken apart by all its words. */
const MOST_WORDS = 600;

/** A text with what was taken from it and what was put in, word by word. */
export function pieces(before: string, after: string): Piece[] {
  const words = (text: string): string[] => text.match(/\s+|[\w.$]+|[^\s\w.$]/g) ?? [];
  const [a, b] = [words(before), words(after)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [x, y] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  const out: Piece[] = [];
  const put = (kind: Piece['kind'], text: string) => {
    const last = out.at(-1);
    if (text === '') return;
    if (last?.kind === kind) last.text += text;
    else out.push({ kind, text });
  };
  put('same', a.slice(0, head).join(''));
  if (x.length > MOST_WORDS || y.length > MOST_WORDS) {
    put('cut', x.join(''));
    put('new', y.join(''));
  } else {
    // The longest run of words that both have, in their order.
    const longest = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
    for (let i = x.length - 1; i >= 0; i--)
      for (let j = y.length - 1; j >= 0; j--)
        longest[i]![j] =
          x[i] === y[j] ? longest[i + 1]![j + 1]! + 1 : Math.max(longest[i + 1]![j]!, longest[i]![j + 1]!);
    let [i, j] = [0, 0];
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) {
        put('same', x[i]!);
        i++;
        j++;
      } else if (i < x.length && (j >= y.length || longest[i + 1]![j]! >= longest[i]![j + 1]!)) put('cut', x[i++]!);
      else put('new', y[j++]!);
    }
  }
  put('same', a.slice(a.length - tail).join(''));
  return out;
}
