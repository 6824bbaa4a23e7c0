// What a dashboard is: one document of JSON. Panels lie on a grid of 24 columns; a row is a panel of its own, and the
// panels below it, up to the next row, are its.

import { formatValue } from '../units';

export const FORMAT = 1;
export const COLUMNS = 24;
/** Most copies that a repeated panel or row makes; what is left out is said. */
export const MAX_REPEATS = 100;

export interface GridPlace {
  x: number;
  y: number;
  w: number;
  h: number;
}

export type PanelKind =
  | 'row'
  | 'timeseries'
  | 'stat'
  | 'gauge'
  | 'bar'
  | 'table'
  | 'heatmap'
  | 'text'
  | 'logs'
  | 'traces'
  | 'sql';

/** What a query is written in: `search` is the search language of logs. */
export type QueryLanguage = 'promql' | 'logql' | 'search' | 'traceql' | 'sql';

export interface PanelQuery {
  ref: string;
  expr: string;
  /** Where it is another than the first of its panel's kind. */
  language?: QueryLanguage;
  legend?: string;
  instant?: boolean;
  hidden?: boolean;
  /** Least distance of steps. */
  step?: string;
}

export interface ThresholdStep {
  /** From this value on; none for the base. */
  value: number | null;
  colour: string;
}

export interface Mapping {
  /** A value as text, a range, a regular expression, or `null`, `nan`, `null+nan`, `true`, `false`, `empty`. */
  match: { value: string } | { from: number | null; to: number | null } | { pattern: string } | { special: string };
  text?: string;
  colour?: string;
}

export type Reducer = 'last' | 'first' | 'min' | 'max' | 'mean' | 'sum' | 'count' | 'range' | 'delta';

/** A way to somewhere else. Its address may name variables, and of a value also `${__value.raw}`, `${__field.labels.job}`. */
export interface Link {
  title: string;
  url: string;
  newTab?: boolean;
  /** The range goes along. */
  keepTime?: boolean;
  /** The choices of variables go along. */
  keepVariables?: boolean;
}

/** How values of some series or columns look. */
export interface FieldLook {
  unit?: string;
  decimals?: number;
  min?: number;
  max?: number;
  name?: string;
  colour?: string;
  thresholds?: ThresholdStep[];
  percentThresholds?: boolean;
  mappings?: Mapping[];
  draw?: 'line' | 'bars' | 'points';
  fill?: number;
  lineWidth?: number;
  stack?: 'none' | 'normal' | 'percent';
  stepped?: boolean;
  hidden?: boolean;
  negate?: boolean;
  width?: number;
  /** Where a value leads to. */
  links?: Link[];
}

export interface Override {
  match: { name: string } | { pattern: string } | { ref: string } | { numeric: true };
  look: FieldLook;
}

export interface PanelOptions extends FieldLook {
  log?: boolean;
  legend?: 'none' | 'list' | 'table';
  legendColumns?: ('last' | 'max' | 'mean' | 'min' | 'sum')[];
  reduce?: Reducer;
  colourBy?: 'none' | 'value' | 'background';
  sparkline?: boolean;
  horizontal?: boolean;
  showThresholds?: boolean;
  noValue?: string;
  /** Of a text panel: Markdown, or text as it is. */
  text?: string;
  plain?: boolean;
  /** Of a table. */
  columns?: { name: string; rename?: string; hidden?: boolean; at?: number }[];
  sortBy?: { name: string; down: boolean };
  overrides?: Override[];
  /** Of a row. */
  collapsed?: boolean;
  /** Of logs: fields beside each line, whether lines wrap, the oldest first. */
  fields?: string[];
  wrap?: boolean;
  oldestFirst?: boolean;
  /** Of logs and traces: most that are listed. */
  limit?: number;
  /** Of traces. */
  slowestFirst?: boolean;
  /** Of SQL: rows along their time, drawn. */
  chart?: boolean;
}

/** A link of a dashboard: to an address, or to all dashboards that have its tags. */
export interface DashboardLink extends Link {
  tags?: string[];
  /** In a menu of its title, instead of one beside the other. */
  asMenu?: boolean;
}

export interface Panel {
  id: string;
  kind: PanelKind;
  title: string;
  description?: string;
  grid: GridPlace;
  queries: PanelQuery[];
  options: PanelOptions;
  repeat?: { variable: string; vertical?: boolean; perRow?: number };
  links?: Link[];
  /** Its own time: back from now, or shifted. */
  timeFrom?: string;
  timeShift?: string;
}

export interface Variable {
  name: string;
  label?: string;
  kind: 'query' | 'custom' | 'text' | 'interval' | 'constant' | 'filters';
  /** `label_values(...)` and its like; choices with commas; the text; matchers. */
  query: string;
  regex?: string;
  multi?: boolean;
  all?: boolean;
  allValue?: string;
  hidden?: boolean;
  sort?: 'none' | 'asc' | 'desc' | 'numeric-asc' | 'numeric-desc';
  /** Chosen when the address says nothing. */
  initial?: string[];
}

export type AnnotationSource = 'promql' | 'logs' | 'logql';

/** What is marked on the time series of a dashboard: where an expression is other than zero, or records that are found. */
export interface Annotation {
  name: string;
  source: AnnotationSource;
  query: string;
  colour?: string;
  /** Not asked until somebody switches it on. */
  off?: boolean;
  /** Without a switch above the panels. */
  hidden?: boolean;
  /** `{{label}}` becomes its value. */
  text?: string;
  /** Labels or fields that are told; all, where it is not said. */
  labels?: string[];
  /** Least distance of steps. */
  step?: string;
  /** A sample's value, in milliseconds, is the moment that is marked. */
  valueAsTime?: boolean;
}

export interface Dashboard {
  format: typeof FORMAT;
  title: string;
  description?: string;
  folder?: string;
  tags: string[];
  time: { from: string; to: string };
  refresh: string;
  variables: Variable[];
  annotations: Annotation[];
  panels: Panel[];
  links?: DashboardLink[];
}

export const emptyDashboard = (title = 'New dashboard'): Dashboard => ({
  format: FORMAT,
  title,
  tags: [],
  time: { from: 'now-1h', to: 'now' },
  refresh: '30s',
  variables: [],
  annotations: [],
  panels: [],
});

export const PANEL_KINDS: { id: PanelKind; label: string }[] = [
  { id: 'timeseries', label: 'Time series' },
  { id: 'stat', label: 'Figure' },
  { id: 'gauge', label: 'Gauge' },
  { id: 'bar', label: 'Bars' },
  { id: 'table', label: 'Table' },
  { id: 'heatmap', label: 'Heatmap' },
  { id: 'logs', label: 'Logs' },
  { id: 'traces', label: 'Traces' },
  { id: 'sql', label: 'SQL' },
  { id: 'text', label: 'Text' },
  { id: 'row', label: 'Row' },
];

const NUMBERS: QueryLanguage[] = ['promql', 'logql', 'traceql'];

/** What the queries of a kind may be written in; the first is meant where a query says nothing. */
export const LANGUAGES: Record<PanelKind, QueryLanguage[]> = {
  row: [],
  text: [],
  timeseries: NUMBERS,
  stat: NUMBERS,
  gauge: NUMBERS,
  bar: NUMBERS,
  table: NUMBERS,
  heatmap: NUMBERS,
  logs: ['search', 'logql'],
  traces: ['traceql'],
  sql: ['sql'],
};

export const LANGUAGE_NAMES: Record<QueryLanguage, string> = {
  promql: 'PromQL',
  logql: 'LogQL',
  search: 'Search',
  traceql: 'TraceQL',
  sql: 'SQL',
};

export const languageOf = (kind: PanelKind, query: PanelQuery): QueryLanguage =>
  query.language && LANGUAGES[kind].includes(query.language) ? query.language : (LANGUAGES[kind][0] ?? 'promql');

/** Kinds whose queries give series of numbers. */
export const isOfNumbers = (kind: PanelKind): boolean => LANGUAGES[kind] === NUMBERS;

/** A panel as one of another kind: queries stay where it understands their language. */
export function asKind(panel: Panel, kind: PanelKind): Panel {
  if (kind === 'text') return { ...panel, kind };
  const kept = panel.queries
    .map((query) => ({ ...query, language: query.language ?? languageOf(panel.kind, query) }))
    .filter((query) => LANGUAGES[kind].includes(query.language))
    .map(({ language, ...query }) => (language === LANGUAGES[kind][0] ? query : { ...query, language }));
  const queries = kind === 'traces' || kind === 'sql' ? kept.slice(0, 1) : kept;
  return { ...panel, kind, queries: queries.length > 0 ? queries : [{ ref: 'A', expr: '' }] };
}

export const ANNOTATION_SOURCES: { id: AnnotationSource; label: string }[] = [
  { id: 'promql', label: 'PromQL: where it is other than zero' },
  { id: 'logs', label: 'Logs: each record found' },
  { id: 'logql', label: 'LogQL: each line, or as PromQL' },
];

/** An id that no panel has. */
export function freshId(dashboard: Dashboard): string {
  const taken = new Set(dashboard.panels.map((p) => p.id));
  for (let i = dashboard.panels.length + 1; ; i++) if (!taken.has(String(i))) return String(i);
}

export function freshPanel(dashboard: Dashboard, kind: PanelKind, queries: string[] = []): Panel {
  const bottom = dashboard.panels.reduce((y, p) => Math.max(y, p.grid.y + p.grid.h), 0);
  const size =
    kind === 'row'
      ? { w: COLUMNS, h: 1 }
      : kind === 'stat' || kind === 'gauge'
        ? { w: 6, h: 6 }
        : kind === 'logs' || kind === 'traces'
          ? { w: COLUMNS, h: 9 }
          : { w: 12, h: 9 };
  return {
    id: freshId(dashboard),
    kind,
    title: kind === 'row' ? 'Row' : kind === 'text' ? '' : (queries[0]?.slice(0, 60) ?? 'New panel'),
    grid: { x: 0, y: bottom, ...size },
    queries:
      kind === 'row' || kind === 'text'
        ? []
        : (queries.length > 0 ? queries : ['']).map((expr, i) => ({ ref: refName(i), expr })),
    options: kind === 'text' ? { text: 'Write here in **Markdown**.' } : {},
  };
}

export const refName = (i: number): string =>
  String.fromCharCode(65 + (i % 26)) + (i >= 26 ? String(Math.floor(i / 26)) : '');

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function checkLinks(links: unknown, of: string): void {
  if (links === undefined) return;
  if (!Array.isArray(links)) throw new Error(`the links of ${of} are no list`);
  for (const link of links as unknown[])
    if (!isObject(link) || typeof link.title !== 'string' || typeof link.url !== 'string')
      throw new Error(`a link of ${of} has no title or no address`);
}

function checkOptions(options: Record<string, unknown>, of: string): void {
  checkLinks(options.links, of);
  const { overrides, fields, limit } = options;
  if (overrides !== undefined && !Array.isArray(overrides)) throw new Error(`the overrides of ${of} are no list`);
  for (const override of (overrides ?? []) as unknown[]) {
    if (!isObject(override) || !isObject(override.match) || !isObject(override.look))
      throw new Error(`an override of ${of} says not what or of what`);
    checkLinks(override.look.links, of);
  }
  if (fields !== undefined && !(Array.isArray(fields) && fields.every((f) => typeof f === 'string')))
    throw new Error(`the fields of ${of} are no list of names`);
  if (limit !== undefined && !(typeof limit === 'number' && Number.isFinite(limit)))
    throw new Error(`the limit of ${of} is no number`);
}

/** Takes a stored document for what it is, or says what is wrong with it. */
export function checkDashboard(value: unknown): Dashboard {
  if (!isObject(value)) throw new Error('a dashboard is an object');
  if (value.format !== FORMAT) throw new Error(`its format is ${String(value.format)}, known is ${FORMAT}`);
  if (typeof value.title !== 'string') throw new Error('it has no title');
  if (!Array.isArray(value.panels)) throw new Error('it has no list of panels');
  const seen = new Set<string>();
  for (const panel of value.panels as unknown[]) {
    if (!isObject(panel) || typeof panel.id !== 'string' || !isObject(panel.grid))
      throw new Error('a panel has no id or no place');
    if (seen.has(panel.id)) throw new Error(`two panels have the id ${panel.id}`);
    seen.add(panel.id);
    if (!PANEL_KINDS.some((k) => k.id === panel.kind)) throw new Error(`panel ${panel.id} is of an unknown kind`);
    const { x, y, w, h } = panel.grid;
    if (![x, y, w, h].every((n) => typeof n === 'number' && Number.isFinite(n) && n >= 0))
      throw new Error(`panel ${panel.id} lies nowhere`);
    if (!Array.isArray(panel.queries) || !isObject(panel.options))
      throw new Error(`panel ${panel.id} has no queries or no options`);
    checkLinks(panel.links, `panel ${panel.id}`);
    checkOptions(panel.options, `panel ${panel.id}`);
  }
  checkLinks(value.links, 'the dashboard');
  // Documents from before there were any have none.
  const annotations: unknown[] = Array.isArray(value.annotations) ? value.annotations : [];
  for (const annotation of annotations) {
    if (!isObject(annotation) || typeof annotation.name !== 'string' || typeof annotation.query !== 'string')
      throw new Error('an annotation has no name or no query');
    if (!ANNOTATION_SOURCES.some((s) => s.id === annotation.source))
      throw new Error(`the annotation ${annotation.name} asks an unknown source`);
    const { labels } = annotation;
    if (labels !== undefined && !(Array.isArray(labels) && labels.every((l) => typeof l === 'string')))
      throw new Error(`the labels of the annotation ${annotation.name} are no list of names`);
    for (const key of ['text', 'step', 'colour'])
      if (annotation[key] !== undefined && typeof annotation[key] !== 'string')
        throw new Error(`the ${key} of the annotation ${annotation.name} is no text`);
  }
  return {
    ...emptyDashboard(),
    ...(value as Partial<Dashboard>),
    variables: Array.isArray(value.variables) ? (value.variables as Variable[]) : [],
    annotations: annotations as Annotation[],
    tags: Array.isArray(value.tags) ? value.tags.filter((t) => typeof t === 'string') : [],
    panels: value.panels as Panel[],
  };
}

/** Sections: a row (or none, at the top) and its panels. */
export interface Section {
  row: Panel | null;
  panels: Panel[];
}

export function sections(panels: Panel[]): Section[] {
  const sorted = [...panels].sort((a, b) => a.grid.y - b.grid.y || a.grid.x - b.grid.x);
  const out: Section[] = [{ row: null, panels: [] }];
  for (const panel of sorted) {
    if (panel.kind === 'row') out.push({ row: panel, panels: [] });
    else out.at(-1)!.panels.push(panel);
  }
  return out.filter((s) => s.row !== null || s.panels.length > 0);
}

const NAMED: Record<string, string> = {
  green: 'var(--ok)',
  'dark-green': 'var(--ok)',
  'semi-dark-green': 'var(--ok)',
  'light-green': 'var(--ok)',
  'super-light-green': 'var(--ok)',
  yellow: 'var(--warn)',
  'dark-yellow': 'var(--warn)',
  'semi-dark-yellow': 'var(--warn)',
  'light-yellow': 'var(--warn)',
  'super-light-yellow': 'var(--warn)',
  orange: 'var(--series-2)',
  'dark-orange': 'var(--series-2)',
  'semi-dark-orange': 'var(--series-2)',
  'light-orange': 'var(--series-2)',
  red: 'var(--critical)',
  'dark-red': 'var(--critical)',
  'semi-dark-red': 'var(--critical)',
  'light-red': 'var(--critical)',
  blue: 'var(--info)',
  'dark-blue': 'var(--info)',
  'semi-dark-blue': 'var(--info)',
  'light-blue': 'var(--info)',
  'super-light-blue': 'var(--info)',
  purple: 'var(--series-4)',
  'dark-purple': 'var(--series-7)',
  'semi-dark-purple': 'var(--series-7)',
  'light-purple': 'var(--series-4)',
  text: 'var(--text)',
  transparent: 'transparent',
  gray: 'var(--muted)',
  white: 'var(--text)',
  black: 'var(--text)',
};

/** A colour of a document as CSS takes it; anything that is no colour is none. */
export function safeColour(name: string | undefined): string | undefined {
  if (!name) return undefined;
  if (NAMED[name]) return NAMED[name];
  if (/^#[0-9a-f]{3,8}$/i.test(name)) return name;
  if (/^rgba?\(\s*[\d.]+%?(\s*,\s*[\d.]+%?){2,3}\s*\)$/i.test(name)) return name;
  return undefined;
}

/** The colour of the step that a value stands on. */
export function thresholdColour(value: number | null, look: FieldLook, min = 0, max = 100): string | undefined {
  const steps = look.thresholds;
  if (!steps || steps.length === 0 || value === null || Number.isNaN(value)) return undefined;
  const at = look.percentThresholds ? ((value - min) / (max - min || 1)) * 100 : value;
  let colour: string | undefined;
  for (const step of steps) if (step.value === null || at >= step.value) colour = step.colour;
  return safeColour(colour);
}

/** What a value is called, where mappings or its unit say so. */
export function showValue(value: number | null, look: FieldLook, noValue = '–'): { text: string; colour?: string } {
  for (const mapping of look.mappings ?? []) {
    if (!mapped(value, mapping)) continue;
    const text = mapping.text ?? formatValue(value, look.unit, look.decimals);
    return { text, colour: safeColour(mapping.colour) };
  }
  if (value === null) return { text: noValue };
  return { text: formatValue(value, look.unit, look.decimals) };
}

function mapped(value: number | null, { match }: Mapping): boolean {
  if ('value' in match) return value !== null && String(value) === match.value;
  if ('from' in match)
    return (
      value !== null &&
      value >= (match.from ?? Number.NEGATIVE_INFINITY) &&
      value <= (match.to ?? Number.POSITIVE_INFINITY)
    );
  if ('pattern' in match) {
    try {
      return value !== null && new RegExp(match.pattern).test(String(value));
    } catch {
      return false;
    }
  }
  if (match.special === 'nan') return value !== null && Number.isNaN(value);
  if (match.special === 'null') return value === null;
  if (match.special === 'null+nan') return value === null || Number.isNaN(value);
  return false;
}

/** The look of a series: the panel's, and what overrides say of it, in their order. */
export function lookOf(options: PanelOptions, name: string, ref?: string): FieldLook {
  let look: FieldLook = options;
  for (const override of options.overrides ?? []) {
    const { match } = override;
    let hit = false;
    if ('name' in match) hit = match.name === name;
    else if ('pattern' in match) {
      try {
        const inner = /^\/(.*)\/([a-z]*)$/s.exec(match.pattern);
        hit = new RegExp(inner?.[1] ?? match.pattern, inner?.[2]?.replace('g', '')).test(name);
      } catch {
        hit = false;
      }
    } else if ('ref' in match) hit = match.ref === ref;
    else hit = true;
    if (hit) look = { ...look, ...override.look };
  }
  return look;
}
