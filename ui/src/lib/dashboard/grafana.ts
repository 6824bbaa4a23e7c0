// Dashboards in Grafana's formats, turned into ours, with an account of what could not come along.
//
//   classic    what the "JSON model" and grafana.com give: `panels` (or, before 2017, `rows`), `templating`, `schemaVersion`
//   v1         a resource: `apiVersion`, `kind: Dashboard`, and the classic model as `spec`
//   v2         a resource: `spec.elements` and `spec.layout`, the default since Grafana 13
//
// Nothing is trusted: every field is looked at before it is used, and what is not understood is named.

import { escapeRegex } from '../labels';
import { asksNumbers, attribute, formQuery, INTRINSICS, quoted } from '../traceql';
import { freeName } from './annotations';
import { FILTER_OPERATORS, type Filter, type FilterOperator, filtersText } from './filters';
import {
  type Annotation,
  type AnnotationSource,
  COLUMNS,
  checkDashboard,
  type Dashboard,
  emptyDashboard,
  type FieldLook,
  type GridPlace,
  isOfNumbers,
  LANGUAGES,
  type Link,
  type Mapping,
  type Override,
  type Panel,
  type PanelKind,
  type PanelOptions,
  type PanelQuery,
  type QueryLanguage,
  type Reducer,
  refName,
  type ThresholdStep,
  type Variable,
} from './model';

export type Source = 'classic' | 'v1' | 'v2' | 'pharos';

export interface Note {
  /** Of which panel or variable; none for the whole. */
  subject?: string;
  severity: 'dropped' | 'changed';
  text: string;
}

export interface Imported {
  source: Source;
  dashboard: Dashboard;
  notes: Note[];
  panels: number;
  queries: number;
}

export class ImportError extends Error {}

type Json = Record<string, unknown>;

const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);
const object = (v: unknown): Json => (isObject(v) ? v : {});
const list = (v: unknown): unknown[] => (Array.isArray(v) ? v : []);
const objects = (v: unknown): Json[] => list(v).filter(isObject);
const str = (v: unknown): string | undefined => (typeof v === 'string' ? v : undefined);
const num = (v: unknown): number | undefined => {
  if (typeof v === 'number' && Number.isFinite(v)) return v;
  return typeof v === 'string' && v.trim() !== '' && Number.isFinite(Number(v)) ? Number(v) : undefined;
};

/** Takes any text that may be a dashboard. */
export function importText(text: string): Imported {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ImportError(`this is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  return importValue(value);
}

export function importValue(value: unknown): Imported {
  if (!isObject(value)) throw new ImportError('a dashboard is a JSON object');
  if (value.format === 1 && Array.isArray(value.panels)) {
    const dashboard = checkDashboard(value);
    return account('pharos', dashboard, []);
  }
  const kind = str(value.kind);
  if (kind === 'Dashboard' && isObject(value.spec)) {
    return isObject(value.spec.elements) || isObject(value.spec.layout)
      ? fromV2(value.spec)
      : fromClassic(value.spec, 'v1');
  }
  // The API of Grafana wraps: {"dashboard": {...}, "meta": {...}}.
  if (isObject(value.dashboard)) {
    const inner = value.dashboard;
    if (isObject(inner.elements) || isObject(inner.layout)) return fromV2(inner);
    return isObject(inner.spec) ? importValue({ kind: 'Dashboard', ...inner }) : fromClassic(inner, 'classic');
  }
  if (isObject(value.elements) || isObject(value.layout)) return fromV2(value);
  if (Array.isArray(value.panels) || Array.isArray(value.rows) || value.schemaVersion !== undefined)
    return fromClassic(value, 'classic');
  throw new ImportError('this JSON has neither panels, rows nor elements: it is no dashboard that is known here');
}

function account(source: Source, dashboard: Dashboard, notes: Note[]): Imported {
  const panels = dashboard.panels.filter((p) => p.kind !== 'row');
  return { source, dashboard, notes, panels: panels.length, queries: panels.reduce((n, p) => n + p.queries.length, 0) };
}

class Notes {
  readonly all: Note[] = [];
  private readonly seen = new Set<string>();

  add(severity: Note['severity'], text: string, subject?: string): void {
    const key = `${severity}|${subject ?? ''}|${text}`;
    if (this.seen.has(key)) return;
    this.seen.add(key);
    this.all.push({ severity, text, subject });
  }
}

// --- The whole ------------------------------------------------------------------------------------------------------

function fromClassic(model: Json, source: Source): Imported {
  const notes = new Notes();
  const dashboard = emptyDashboard(str(model.title) ?? 'Imported dashboard');
  dashboard.description = str(model.description) || undefined;
  dashboard.tags = list(model.tags).filter((t) => typeof t === 'string');
  const time = object(model.time);
  if (str(time.from) && str(time.to)) dashboard.time = { from: str(time.from)!, to: str(time.to)! };
  dashboard.refresh = refreshOf(model.refresh);
  const sources = new DataSources(model);
  dashboard.variables = variablesOf(objects(object(model.templating).list), notes, sources);
  const panels: Panel[] = [];
  const ids = new Ids();
  if (Array.isArray(model.panels)) {
    placeClassic(objects(model.panels), panels, ids, notes, sources);
  }
  if (Array.isArray(model.rows)) placeRows(objects(model.rows), panels, ids, notes, sources);
  dashboard.panels = panels;
  dashboard.annotations = annotationsOf(objects(object(model.annotations).list), notes, sources);
  dashboard.links = linksOf(objects(model.links), notes);
  return account(source, dashboard, notes.all);
}

function refreshOf(value: unknown): string {
  const text = str(value);
  return text && /^\d+(s|m|h)$/.test(text) ? text : 'off';
}

/** Grafana's own annotations, people's notes and its alerts, are in every dashboard; they leave without a word. */
const isOwn = (annotation: Json): boolean =>
  annotation.builtIn === 1 ||
  annotation.builtIn === true ||
  [str(annotation.datasource), str(object(annotation.datasource).uid)].includes('-- Grafana --');

function annotationsOf(models: Json[], notes: Notes, sources: DataSources): Annotation[] {
  const out: Annotation[] = [];
  for (const model of models) {
    if (isOwn(model)) continue;
    const name = str(model.name) || 'Annotation';
    const subject = `annotation ${name}`;
    const target = object(model.target);
    const query = (str(target.expr) ?? str(model.expr) ?? '').trim();
    const reference = model.datasource;
    const kind =
      sources.kind(reference) ?? (typeof reference === 'string' && /loki/i.test(reference) ? 'loki' : undefined);
    // Where nothing is said of the source, a line filter tells.
    const source: AnnotationSource | null =
      kind === undefined
        ? /\}\s*(\|=|\|~|!=|!~|\|\s*(json|logfmt)\b)/.test(query)
          ? 'logql'
          : 'promql'
        : /^loki$/i.test(kind)
          ? 'logql'
          : SPEAKS_PROMQL.test(kind) && !/logs/i.test(kind)
            ? 'promql'
            : null;
    if (source === null || query === '') {
      const why = source === null ? `it asks "${kind}"; only PromQL and LogQL are understood` : 'it has no query';
      notes.add('dropped', why, subject);
      continue;
    }
    const filter = object(model.filter);
    if (list(filter.ids).length > 0) notes.add('changed', 'it was on some panels only, now it is on all', subject);
    const texts = [str(model.titleFormat), str(model.textFormat)].filter((t) => t);
    const labels = (str(model.tagKeys) ?? '')
      .split(',')
      .map((key) => key.trim())
      .filter(Boolean);
    const step = str(model.step) || str(target.interval);
    const asTime = source === 'promql' && (model.useValueForTime === true || model.useValueForTime === 'on');
    out.push(
      prune({
        name: freeName(name, out),
        source,
        query,
        colour: str(model.iconColor) || undefined,
        off: model.enable === false || undefined,
        hidden: model.hide === true || undefined,
        text: texts.length > 0 ? texts.join('\n') : undefined,
        labels: labels.length > 0 ? labels : undefined,
        step: step || undefined,
        valueAsTime: asTime || undefined,
      }),
    );
  }
  return out;
}

/** Names that older addresses had for what a value is. */
const OLD_NAMES: [RegExp, string][] = [
  [/\$\{?__series_name\}?/g, '${__series.name}'],
  [/\$\{?__value_time\}?/g, '${__value.time}'],
  [/\$\{__cell:raw\}|\$\{__cell\}|\$__cell\b(?!_)/g, '${__value.raw}'],
];

/** A link whose address leads out of that Grafana; null for one to its own pages. */
function linkOf(model: Json): Link | null {
  const written = str(model.url)?.trim() ?? '';
  const url = OLD_NAMES.reduce((text, [old, now]) => text.replace(old, now), written);
  if (!/^https?:\/\/|^\$\{?\w|^\[\[\w/.test(url) || /__cell_\d/.test(url)) return null;
  return prune({
    title: str(model.title) || str(model.tooltip) || url,
    url,
    newTab: model.targetBlank === true || undefined,
    keepTime: model.keepTime === true || undefined,
    keepVariables: model.includeVars === true || undefined,
  });
}

function linksFrom(models: Json[], notes: Notes, what: string, subject: string): Link[] | undefined {
  const links = models.map(linkOf).filter((link) => link !== null);
  if (links.length < models.length) notes.add('dropped', `${what} to pages of that Grafana`, subject);
  return links.length > 0 ? links : undefined;
}

function linksOf(models: Json[], notes: Notes): Dashboard['links'] {
  const out: NonNullable<Dashboard['links']> = [];
  for (const model of models) {
    const title = str(model.title) || str(model.tooltip) || '';
    if (model.type === 'dashboards') {
      const tags = list(model.tags).filter((tag) => typeof tag === 'string');
      out.push(
        prune({
          title: title || tags.join(', ') || 'Dashboards',
          url: '',
          tags,
          asMenu: model.asDropdown === true || undefined,
          newTab: model.targetBlank === true || undefined,
          keepVariables: model.includeVars === true || undefined,
        }),
      );
      continue;
    }
    const link = linkOf(model);
    if (link) out.push(link);
    else notes.add('dropped', `the link "${title || str(model.url) || ''}" to a page of that Grafana`);
  }
  return out.length > 0 ? out : undefined;
}

/** Ids of panels, each once, whatever the document says. */
class Ids {
  private readonly taken = new Set<string>();

  take(wanted: unknown): string {
    const text = typeof wanted === 'number' || (typeof wanted === 'string' && wanted !== '') ? String(wanted) : '';
    let id = text;
    for (let i = 1; id === '' || this.taken.has(id); i++) id = text === '' ? `p${i}` : `${text}-${i}`;
    this.taken.add(id);
    return id;
  }
}

/** Which data sources a document names, to know what is PromQL. */
class DataSources {
  private readonly inputs = new Map<string, string>();

  constructor(model: Json) {
    for (const input of objects(model.__inputs)) {
      const name = str(input.name);
      if (name && input.type === 'datasource') this.inputs.set(name, str(input.pluginId) ?? '');
    }
    for (const variable of objects(object(model.templating).list)) {
      if (variable.type === 'datasource') this.inputs.set(str(variable.name) ?? '', str(variable.query) ?? '');
    }
  }

  /** The plugin of a reference, or none where the document does not say. */
  kind(reference: unknown): string | undefined {
    if (isObject(reference)) {
      const type = str(reference.type);
      if (type && !type.includes('$')) return type;
      return this.named(str(reference.uid) ?? type);
    }
    return this.named(str(reference));
  }

  private named(text: string | undefined): string | undefined {
    if (!text) return undefined;
    const variable = /^\$\{?(\w+)\}?$/.exec(text)?.[1];
    const known = this.inputs.get(variable ?? text);
    if (known) return known;
    if (/prom|mimir|thanos|victoria|cortex/i.test(text)) return 'prometheus';
    if (/^(loki|tempo)\b/i.test(text)) return /^loki/i.test(text) ? 'loki' : 'tempo';
    if (/^-- (Mixed|Dashboard|Grafana) --$/.test(text)) return text === '-- Mixed --' ? undefined : text;
    return undefined;
  }
}

const SPEAKS_PROMQL = /prometheus|mimir|thanos|cortex|victoriametrics|amazonprometheus|azureprometheus/i;

// --- Places ---------------------------------------------------------------------------------------------------------

function placeOf(value: unknown, otherwise: GridPlace): GridPlace {
  const place = object(value);
  const w = Math.min(Math.max(Math.round(num(place.w) ?? otherwise.w), 1), COLUMNS);
  return {
    x: Math.min(Math.max(Math.round(num(place.x) ?? otherwise.x), 0), COLUMNS - w),
    y: Math.max(Math.round(num(place.y) ?? otherwise.y), 0),
    w,
    h: Math.min(Math.max(Math.round(num(place.h) ?? otherwise.h), 1), 200),
  };
}

function placeClassic(models: Json[], out: Panel[], ids: Ids, notes: Notes, sources: DataSources): void {
  // A collapsed row holds its panels itself, at places from the time when it was open; those after it moved up. So
  // rows are unfolded in order, and what follows is moved down by what was hidden.
  const sorted = models
    .map((model, i) => ({ model, i, y: num(object(model.gridPos).y) ?? i * 8, x: num(object(model.gridPos).x) ?? 0 }))
    .sort((a, b) => a.y - b.y || a.x - b.x || a.i - b.i);
  let moved = 0;
  for (const { model, y } of sorted) {
    const place = placeOf(model.gridPos, { x: 0, y, w: COLUMNS, h: 8 });
    place.y += moved;
    if (model.type !== 'row') {
      out.push(panelOf(model, place, ids, notes, sources));
      continue;
    }
    const row = rowOf(model, { x: 0, y: place.y, w: COLUMNS, h: 1 }, ids);
    out.push(row);
    const inner = objects(model.panels);
    if (inner.length === 0) continue;
    const top = Math.min(...inner.map((p) => num(object(p.gridPos).y) ?? 0));
    let bottom = place.y + 1;
    for (const panel of inner) {
      const inside = placeOf(panel.gridPos, { x: 0, y: 0, w: COLUMNS, h: 8 });
      inside.y = place.y + 1 + (inside.y - top);
      bottom = Math.max(bottom, inside.y + inside.h);
      out.push(panelOf(panel, inside, ids, notes, sources));
    }
    if (model.collapsed === true) moved += bottom - (place.y + 1);
  }
}

/** The format before the grid: rows with a height, panels with a span of twelve. */
function placeRows(rows: Json[], out: Panel[], ids: Ids, notes: Notes, sources: DataSources): void {
  let y = out.reduce((bottom, p) => Math.max(bottom, p.grid.y + p.grid.h), 0);
  for (const model of rows) {
    const height = Math.max(3, Math.round((num(String(model.height ?? '250px').replace('px', '')) ?? 250) / 30));
    const titled = model.showTitle === true || model.collapse === true || str(model.repeat) !== undefined;
    if (titled || rows.length > 1) {
      out.push(rowOf({ ...model, collapsed: model.collapse }, { x: 0, y, w: COLUMNS, h: 1 }, ids));
      y += 1;
    }
    let x = 0;
    let lineHeight = height;
    for (const panel of objects(model.panels)) {
      const w = Math.min(Math.max(Math.round(((num(panel.span) ?? 4) / 12) * COLUMNS), 2), COLUMNS);
      if (x + w > COLUMNS) {
        x = 0;
        y += lineHeight;
      }
      const own = num(String(panel.height ?? '').replace('px', ''));
      lineHeight = Math.max(height, own ? Math.round(own / 30) : 0);
      out.push(panelOf(panel, { x, y, w, h: lineHeight }, ids, notes, sources));
      x += w;
    }
    y += lineHeight;
  }
}

function rowOf(model: Json, grid: GridPlace, ids: Ids): Panel {
  const repeat = str(model.repeat);
  return {
    id: ids.take(model.id),
    kind: 'row',
    title: str(model.title) ?? 'Row',
    grid,
    queries: [],
    options: { collapsed: model.collapsed === true },
    ...(repeat ? { repeat: { variable: repeat } } : {}),
  };
}

// --- Panels ---------------------------------------------------------------------------------------------------------

const KINDS: Record<string, PanelKind> = {
  timeseries: 'timeseries',
  graph: 'timeseries',
  'graph-old': 'timeseries',
  trend: 'timeseries',
  stat: 'stat',
  singlestat: 'stat',
  'grafana-singlestat-panel': 'stat',
  gauge: 'gauge',
  bargauge: 'bar',
  barchart: 'bar',
  piechart: 'bar',
  'grafana-piechart-panel': 'bar',
  histogram: 'heatmap',
  table: 'table',
  'table-old': 'table',
  heatmap: 'heatmap',
  'heatmap-new': 'heatmap',
  text: 'text',
  row: 'row',
  logs: 'logs',
  traces: 'traces',
  'state-timeline': 'timeseries',
  'status-history': 'timeseries',
};

/** Kinds that are shown as something near, and how. */
const NEAR: Record<string, string> = {
  piechart: 'a pie is shown as bars',
  'grafana-piechart-panel': 'a pie is shown as bars',
  'state-timeline': 'states over time are shown as steps',
  'status-history': 'states over time are shown as steps',
  trend: 'a trend is shown over time',
  histogram: 'a histogram of values is shown as a heatmap over time',
};

function panelOf(model: Json, grid: GridPlace, ids: Ids, notes: Notes, sources: DataSources): Panel {
  const type = str(model.type) ?? 'graph';
  const title = str(model.title) ?? '';
  const subject = title || `panel ${String(model.id ?? '')}`;
  const targets = objects(model.targets);
  const { asked, foreign } = queriesOf(targets, model.datasource, sources, notes, subject);
  let kind = Object.hasOwn(KINDS, type) ? KINDS[type]! : undefined;
  // What is asked decides where a kind can not show it: lines and traces are lists.
  if (kind !== 'text' && kind !== 'row' && asked.length > 0) {
    const shapes = new Set(asked.map((a) => a.shape));
    const own = kind === 'logs' ? 'lines' : kind === 'traces' ? 'traces' : 'numbers';
    if (!shapes.has(own)) {
      const other = asked[0]!.shape;
      kind = other === 'lines' ? 'logs' : other === 'traces' ? 'traces' : 'timeseries';
      const words = {
        lines: 'lines of logs are listed',
        traces: 'traces are listed',
        numbers: 'numbers are drawn over time',
      };
      notes.add('changed', `a panel of type "${type}": ${words[other]}`, subject);
    }
  }
  const queries = fitting(asked, kind ?? 'timeseries', notes, subject);
  if (NEAR[type]) notes.add('changed', NEAR[type]!, subject);
  if (kind === undefined || kind === 'row') {
    kind = queries.length > 0 ? 'timeseries' : 'text';
    notes.add(
      queries.length > 0 ? 'changed' : 'dropped',
      `a panel of type "${type}"${queries.length > 0 ? ' is shown as a time series' : ''}`,
      subject,
    );
  }
  if (kind !== 'text' && queries.length === 0 && model.libraryPanel !== undefined) {
    notes.add('dropped', 'a library panel: its content is not in the file', subject);
  }
  const options =
    kind === 'text' && Object.hasOwn(KINDS, type) ? textOptions(model) : optionsOf(model, type, kind, notes, subject);
  const limit = asked.find((a) => a.limit !== undefined)?.limit;
  if ((kind === 'logs' || kind === 'traces') && limit) options.limit = limit;
  if (kind === 'text' && !Object.hasOwn(KINDS, type)) {
    options.text = `This panel was of type \`${type.replace(/`/g, '')}\`, which has no counterpart here.`;
  }
  if (foreign.length > 0 && queries.length === 0 && kind !== 'text') {
    options.noValue = undefined;
  }
  const panel: Panel = {
    id: ids.take(model.id),
    kind,
    title,
    description: str(model.description) || undefined,
    grid,
    queries,
    options,
  };
  const repeat = str(model.repeat);
  if (repeat)
    panel.repeat = { variable: repeat, vertical: model.repeatDirection === 'v', perRow: num(model.maxPerRow) };
  if (str(model.timeFrom)) panel.timeFrom = str(model.timeFrom);
  if (str(model.timeShift)) panel.timeShift = str(model.timeShift);
  if (type === 'state-timeline' || type === 'status-history') options.stepped = true;
  const links = linksFrom(objects(model.links), notes, 'links', subject);
  if (links) panel.links = links;
  if (model.alert !== undefined) notes.add('dropped', 'an alert of its own', subject);
  return panel;
}

/** A query, and what it gives. */
interface AskedQuery {
  query: PanelQuery;
  language: QueryLanguage;
  shape: 'numbers' | 'lines' | 'traces';
  limit?: number;
}

const UNDERSTOOD = 'only PromQL, LogQL and searches of traces are understood';

/** Whether LogQL gives lines: a query for numbers begins with a function. */
const givesLines = (expr: string): boolean => /^\s*(?:#.*\n\s*)*\{/.test(expr);

function queriesOf(
  targets: Json[],
  panelSource: unknown,
  sources: DataSources,
  notes: Notes,
  subject: string,
): { asked: AskedQuery[]; foreign: string[] } {
  const asked: AskedQuery[] = [];
  const foreign: string[] = [];
  targets.forEach((target, i) => {
    const kind = sources.kind(target.datasource) ?? sources.kind(panelSource);
    const ref = str(target.refId) ?? refName(i);
    const common = {
      ...(target.hide === true ? { hidden: true } : {}),
    };
    if (kind && /^(tempo|jaeger)$/i.test(kind)) {
      const found = traceQuery(target, /^jaeger$/i.test(kind));
      if (found === null) {
        foreign.push(kind);
        notes.add('dropped', `a query of type "${str(target.queryType) ?? 'none'}" to "${kind}"`, subject);
        return;
      }
      if (found.isId) notes.add('changed', 'a trace by its id is listed, and opens by a click', subject);
      const shape = asksNumbers(found.query) ? 'numbers' : 'traces';
      asked.push({
        query: { ref, expr: found.query, ...common },
        language: 'traceql',
        shape,
        limit: num(target.limit),
      });
      return;
    }
    const isLoki = kind !== undefined && /^loki$/i.test(kind);
    const expr =
      str(target.expr) ?? (str(target.query) && kind && SPEAKS_PROMQL.test(kind) ? str(target.query) : undefined);
    if (kind && !isLoki && !SPEAKS_PROMQL.test(kind) && kind !== 'datasource') {
      foreign.push(kind);
      notes.add(
        'dropped',
        kind === '-- Dashboard --'
          ? "a query that reuses another panel's answer"
          : `a query to "${kind}"; ${UNDERSTOOD}`,
        subject,
      );
      return;
    }
    if (expr === undefined) {
      const type = str(target.type);
      if (type === 'math' || type === 'reduce' || type === 'resample' || target.expression !== undefined) {
        notes.add('dropped', `the expression ${str(target.refId) ?? ''} on answers of other queries`, subject);
      } else if (
        Object.keys(target).some((k) => !['refId', 'hide', 'datasource', 'editorMode', 'range'].includes(k)) &&
        kind === undefined
      ) {
        notes.add('dropped', 'a query that is not PromQL', subject);
      }
      return;
    }
    const legend = str(target.legendFormat);
    const step =
      str(target.interval) ?? str(target.step) ?? (typeof target.step === 'number' ? `${target.step}s` : undefined);
    const lines = isLoki && givesLines(expr);
    const isInstant = isLoki ? target.queryType === 'instant' || target.instant === true : target.instant === true;
    asked.push({
      language: isLoki ? 'logql' : 'promql',
      shape: lines ? 'lines' : 'numbers',
      limit: num(target.maxLines),
      query: {
        ref,
        expr,
        ...(legend && legend !== '__auto' ? { legend } : {}),
        ...(isInstant && target.range !== true && !lines ? { instant: true } : {}),
        ...common,
        ...(step && !lines ? { step } : {}),
      },
    });
  });
  return { asked, foreign };
}

/** The queries that a kind takes, with their languages; of the others it is said that they are gone. */
function fitting(asked: AskedQuery[], kind: PanelKind, notes: Notes, subject: string): PanelQuery[] {
  const shape = kind === 'logs' ? 'lines' : kind === 'traces' ? 'traces' : 'numbers';
  if (!isOfNumbers(kind) && shape === 'numbers') return asked.map((a) => a.query);
  const right = asked.filter((a) => a.shape === shape);
  if (right.length < asked.length)
    notes.add('dropped', 'queries whose answers are of another kind than the rest of the panel', subject);
  if (kind === 'traces' && right.length > 1)
    notes.add('dropped', 'searches of traces but the first: a panel lists one', subject);
  const taken = kind === 'traces' ? right.slice(0, 1) : right;
  return taken.map(({ query, language }) => (language === LANGUAGES[kind][0] ? query : { ...query, language }));
}

/** A search of traces as TraceQL; null for what is no search. */
function traceQuery(target: Json, isJaeger: boolean): { query: string; isId: boolean } | null {
  const text = str(target.query)?.trim() ?? '';
  const type = str(target.queryType) ?? '';
  const isId = /^([0-9a-f]{1,32}|\$\w+|\$\{\w+(:\w+)?\})$/i.test(text);
  if (isJaeger ? type === '' : type === 'traceId' || ((type === 'traceql' || type === '') && isId))
    return text === '' ? null : { query: `{ trace:id = ${quoted(text)} }`, isId: true };
  if (type === 'traceqlSearch') {
    const conditions = objects(target.filters).map(filterCondition);
    return { query: `{ ${conditions.filter((c) => c !== '').join(' && ')} }`.replace('{  }', '{ }'), isId: false };
  }
  if (type === 'traceql' || (type === '' && text !== '')) return text === '' ? null : { query: text, isId: false };
  if (type !== 'search' && type !== 'nativeSearch') return null;
  const tags = [...(str(target.tags) ?? str(target.search) ?? '').matchAll(/([^\s=]+)=("(?:[^"\\]|\\.)*"|\S+)/g)].map(
    ([, key, value]) => `${key}=${value!.replace(/^"(.*)"$/, '$1')}`,
  );
  const query = formQuery(
    prune({
      service: str(target.service) || str(target.serviceName) || undefined,
      operation: str(target.operation) || str(target.spanName) || undefined,
      tags: tags.length > 0 ? tags : undefined,
      dmin: str(target.minDuration) || undefined,
      dmax: str(target.maxDuration) || undefined,
    }),
  );
  return { query, isId: false };
}

/** One field of Tempo's form. */
function filterCondition(filter: Json): string {
  const tag = str(filter.tag) ?? '';
  const values = (Array.isArray(filter.value) ? filter.value : [filter.value]).filter(
    (v): v is string => typeof v === 'string' && v !== '',
  );
  if (tag === '' || values.length === 0) return '';
  const written = str(filter.operator) ?? '=';
  const isMany = values.length > 1;
  const op = isMany && written === '=' ? '=~' : isMany && written === '!=' ? '!~' : written;
  const scope = str(filter.scope) ?? '';
  const isOwn = INTRINSICS.includes(tag) && scope !== 'resource';
  const field = isOwn
    ? tag
    : attribute((['span', 'resource', 'event', 'link', 'instrumentation'].includes(scope) ? scope : '') as '', tag);
  const isWord = ['keyword', 'duration', 'int', 'float', 'bool'].includes(str(filter.valueType) ?? '') && !isMany;
  const isBare = isWord || (isOwn && !isMany && (tag === 'kind' || tag === 'status' || /duration$/i.test(tag)));
  return `${field} ${op} ${isBare ? values[0] : quoted(values.join('|'))}`;
}

function textOptions(model: Json): PanelOptions {
  const options = object(model.options);
  const mode = str(options.mode) ?? str(model.mode);
  const text = str(options.content) ?? str(model.content) ?? '';
  return { text, plain: mode === 'code' || mode === 'text' };
}

const REDUCERS: Record<string, Reducer> = {
  last: 'last',
  lastNotNull: 'last',
  current: 'last',
  first: 'first',
  firstNotNull: 'first',
  min: 'min',
  max: 'max',
  mean: 'mean',
  avg: 'mean',
  sum: 'sum',
  total: 'sum',
  count: 'count',
  range: 'range',
  diff: 'delta',
  delta: 'delta',
};

function reducerOf(calc: unknown, notes: Notes, subject: string): Reducer | undefined {
  const name = str(calc);
  if (!name) return undefined;
  const known = Object.hasOwn(REDUCERS, name) ? REDUCERS[name] : undefined;
  if (!known) notes.add('changed', `the value shown was "${name}", now it is the last`, subject);
  return known;
}

function optionsOf(model: Json, type: string, kind: PanelKind, notes: Notes, subject: string): PanelOptions {
  const field = object(model.fieldConfig);
  const given = object(model.options);
  if (kind === 'logs') return logOptions(given, notes, subject);
  if (kind === 'traces') return {};
  const options: PanelOptions = lookOf(object(field.defaults), notes, subject);
  const overrides = objects(field.overrides)
    .map((o) => overrideOf(o, notes, subject))
    .filter((o) => o !== null);
  if (overrides.length > 0) options.overrides = overrides;

  const legend = object(given.legend);
  if (kind === 'timeseries' || kind === 'bar') {
    if (legend.showLegend === false || legend.displayMode === 'hidden') options.legend = 'none';
    else if (legend.displayMode === 'table') options.legend = 'table';
    else options.legend = 'list';
    const calcs = list(legend.calcs)
      .map((c) => REDUCERS[String(c)])
      .filter((c) => c === 'last' || c === 'max' || c === 'mean' || c === 'min' || c === 'sum');
    if (calcs.length > 0) options.legendColumns = [...new Set(calcs)] as PanelOptions['legendColumns'];
  }
  const reduce = object(given.reduceOptions);
  options.reduce = reducerOf(list(reduce.calcs)[0], notes, subject);
  if (kind === 'stat') {
    const mode = str(given.colorMode);
    options.colourBy =
      mode === 'background' || mode === 'background_solid' ? 'background' : mode === 'none' ? 'none' : 'value';
    options.sparkline = given.graphMode === 'area';
  }
  if (type === 'bargauge' || type === 'barchart') options.horizontal = given.orientation !== 'vertical';
  if (kind === 'table') tableOptions(model, given, options, notes, subject);
  else transformNotes(model, notes, subject);

  if (type === 'graph' || type === 'graph-old') oldGraph(model, options, overrides, notes, subject);
  if (type === 'singlestat' || type === 'grafana-singlestat-panel') oldSinglestat(model, options);
  if (type === 'gauge' && isObject(given.fieldOptions)) {
    // The first shape of the gauge, before field configurations.
    const old = object(given.fieldOptions);
    Object.assign(options, lookOf(object(old.defaults), notes, subject));
    options.reduce = reducerOf(list(old.calcs)[0], notes, subject) ?? options.reduce;
  }
  return prune(options);
}

function logOptions(given: Json, notes: Notes, subject: string): PanelOptions {
  const fields = list(given.displayedFields).filter((name) => typeof name === 'string');
  if (str(given.dedupStrategy) && given.dedupStrategy !== 'none')
    notes.add('changed', 'lines that repeat are all listed', subject);
  return prune({
    wrap: given.wrapLogMessage === true || undefined,
    oldestFirst: given.sortOrder === 'Ascending' || undefined,
    fields: fields.length > 0 ? fields.slice(0, 6) : undefined,
  });
}

function prune<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

function lookOf(defaults: Json, notes: Notes, subject: string): FieldLook & PanelOptions {
  const look: FieldLook & PanelOptions = {};
  look.unit = str(defaults.unit);
  look.decimals = num(defaults.decimals);
  look.min = num(defaults.min);
  look.max = num(defaults.max);
  look.noValue = str(defaults.noValue);
  look.name = str(defaults.displayName) || undefined;
  const thresholds = object(defaults.thresholds);
  const steps = thresholdSteps(thresholds.steps);
  if (steps.length > 0) look.thresholds = steps;
  if (thresholds.mode === 'percentage') look.percentThresholds = true;
  const mappings = mappingsOf(defaults.mappings);
  if (mappings.length > 0) look.mappings = mappings;
  const colour = object(defaults.color);
  if (colour.mode === 'fixed') look.colour = str(colour.fixedColor);
  const custom = object(defaults.custom);
  Object.assign(look, customLook(custom, notes, subject));
  look.links = linksFrom(objects(defaults.links), notes, 'links on values', subject);
  return prune(look);
}

function customLook(custom: Json, notes: Notes, subject: string): FieldLook & PanelOptions {
  const look: FieldLook & PanelOptions = {};
  const style = str(custom.drawStyle);
  if (style === 'bars') look.draw = 'bars';
  if (style === 'points') look.draw = 'points';
  const fill = num(custom.fillOpacity);
  if (fill !== undefined) look.fill = Math.min(fill, 100) / 100;
  look.lineWidth = num(custom.lineWidth);
  const stacking = str(object(custom.stacking).mode);
  if (stacking === 'normal' || stacking === 'percent') look.stack = stacking;
  if (str(custom.lineInterpolation)?.startsWith('step')) look.stepped = true;
  if (object(custom.scaleDistribution).type === 'log') look.log = true;
  if (object(custom.thresholdsStyle).mode && object(custom.thresholdsStyle).mode !== 'off') look.showThresholds = true;
  if (object(custom.hideFrom).viz === true || custom.hidden === true) look.hidden = true;
  if (custom.transform === 'negative-Y') look.negate = true;
  if (custom.axisPlacement === 'right') notes.add('changed', 'a second axis on the right: one axis is drawn', subject);
  look.width = num(custom.width);
  return prune(look);
}

function thresholdSteps(value: unknown): ThresholdStep[] {
  return objects(value)
    .map((step) => ({
      value: step.value === null || step.value === undefined ? null : (num(step.value) ?? null),
      colour: str(step.color) ?? 'green',
    }))
    .sort((a, b) => (a.value ?? Number.NEGATIVE_INFINITY) - (b.value ?? Number.NEGATIVE_INFINITY));
}

function mappingsOf(value: unknown): Mapping[] {
  const out: Mapping[] = [];
  for (const mapping of objects(value)) {
    const options = object(mapping.options);
    switch (mapping.type) {
      case 'value':
        for (const [key, result] of Object.entries(options)) {
          const to = object(result);
          out.push(prune({ match: { value: key }, text: str(to.text), colour: str(to.color) }));
        }
        break;
      case 'range': {
        const to = object(options.result);
        out.push(
          prune({
            match: { from: num(options.from) ?? null, to: num(options.to) ?? null },
            text: str(to.text),
            colour: str(to.color),
          }),
        );
        break;
      }
      case 'regex': {
        const to = object(options.result);
        out.push(prune({ match: { pattern: str(options.pattern) ?? '' }, text: str(to.text), colour: str(to.color) }));
        break;
      }
      case 'special': {
        const to = object(options.result);
        out.push(
          prune({ match: { special: str(options.match) ?? 'null' }, text: str(to.text), colour: str(to.color) }),
        );
        break;
      }
      case 1:
        out.push(prune({ match: { value: String(mapping.value ?? '') }, text: str(mapping.text) }));
        break;
      case 2:
        out.push(
          prune({ match: { from: num(mapping.from) ?? null, to: num(mapping.to) ?? null }, text: str(mapping.text) }),
        );
        break;
    }
  }
  // The oldest form wrote "null" as a value.
  return out.map((m) => ('value' in m.match && m.match.value === 'null' ? { ...m, match: { special: 'null' } } : m));
}

function overrideOf(model: Json, notes: Notes, subject: string): Override | null {
  const matcher = object(model.matcher);
  const target = matcher.options;
  let match: Override['match'];
  if (matcher.id === 'byName') match = { name: str(target) ?? '' };
  else if (matcher.id === 'byRegexp') match = { pattern: str(target) ?? '' };
  else if (matcher.id === 'byFrameRefID') match = { ref: str(target) ?? '' };
  else if (matcher.id === 'byType' && target === 'number') match = { numeric: true };
  else {
    notes.add('dropped', `an override for fields chosen by "${String(matcher.id)}"`, subject);
    return null;
  }
  const look: FieldLook & PanelOptions = {};
  for (const property of objects(model.properties)) {
    const id = str(property.id) ?? '';
    const value = property.value;
    switch (id) {
      case 'unit':
        look.unit = str(value);
        break;
      case 'decimals':
        look.decimals = num(value);
        break;
      case 'min':
        look.min = num(value);
        break;
      case 'max':
        look.max = num(value);
        break;
      case 'displayName':
        look.name = str(value);
        break;
      case 'color':
        look.colour = str(object(value).fixedColor);
        break;
      case 'thresholds':
        look.thresholds = thresholdSteps(object(value).steps);
        break;
      case 'mappings':
        look.mappings = mappingsOf(value);
        break;
      case 'links':
        look.links = linksFrom(objects(value), notes, 'links on values', subject);
        break;
      default: {
        if (!id.startsWith('custom.')) {
          if (id !== 'noValue') notes.add('dropped', `the override "${id}"`, subject);
          break;
        }
        const rest = customLook({ [id.slice(7)]: value }, notes, subject);
        Object.assign(look, rest);
        if (Object.keys(rest).length === 0 && !QUIET.has(id)) notes.add('dropped', `the override "${id}"`, subject);
      }
    }
  }
  const pruned = prune(look);
  return Object.keys(pruned).length === 0 ? null : { match, look: pruned };
}

/** Overrides of finer drawing, whose absence changes nothing that is read. */
const QUIET = new Set([
  'custom.lineStyle',
  'custom.showPoints',
  'custom.pointSize',
  'custom.spanNulls',
  'custom.gradientMode',
  'custom.axisLabel',
  'custom.axisPlacement',
  'custom.align',
  'custom.filterable',
  'custom.stacking',
  'custom.fillBelowTo',
  'custom.hideFrom',
  'custom.cellOptions',
  'custom.displayMode',
  'custom.barAlignment',
  'custom.thresholdsStyle',
  'custom.transform',
  'custom.inspect',
  'custom.minWidth',
]);

const KNOWN_TRANSFORMS = new Set([
  'merge',
  'organize',
  'sortBy',
  'seriesToColumns',
  'joinByField',
  'labelsToFields',
  'filterFieldsByName',
  'seriesToRows',
]);

function tableOptions(model: Json, given: Json, options: PanelOptions, notes: Notes, subject: string): void {
  const columns = new Map<string, { name: string; rename?: string; hidden?: boolean; at?: number }>();
  const column = (name: string) => {
    let known = columns.get(name);
    if (!known) {
      known = { name };
      columns.set(name, known);
    }
    return known;
  };
  for (const transform of objects(model.transformations)) {
    const id = str(transform.id) ?? '';
    if (transform.disabled === true) continue;
    const by = object(transform.options);
    if (id === 'organize') {
      for (const [name, hidden] of Object.entries(object(by.excludeByName)))
        if (hidden === true) column(name).hidden = true;
      for (const [name, to] of Object.entries(object(by.renameByName)))
        if (typeof to === 'string' && to !== '') column(name).rename = to;
      for (const [name, at] of Object.entries(object(by.indexByName))) if (typeof at === 'number') column(name).at = at;
    } else if (id === 'sortBy') {
      const first = objects(by.sort)[0];
      if (first && str(first.field)) options.sortBy = { name: str(first.field)!, down: first.desc === true };
    } else if (!KNOWN_TRANSFORMS.has(id)) {
      notes.add('dropped', `the transformation "${id}"`, subject);
    }
  }
  const sort = objects(given.sortBy)[0];
  if (sort && str(sort.displayName)) options.sortBy = { name: str(sort.displayName)!, down: sort.desc === true };
  // The old table wrote names, units and hiding into styles.
  for (const style of objects(model.styles)) {
    const pattern = str(style.pattern);
    if (!pattern || pattern.startsWith('/')) continue;
    if (style.type === 'hidden') column(pattern).hidden = true;
    if (str(style.alias)) column(pattern).rename = str(style.alias);
    const link =
      style.link === true ? { url: style.linkUrl, title: style.linkTooltip, targetBlank: style.linkTargetBlank } : null;
    const look = prune({
      ...(style.type === 'number' ? { unit: str(style.unit), decimals: num(style.decimals) } : {}),
      links: link ? linksFrom([link], notes, 'links on values', subject) : undefined,
    });
    if (Object.keys(look).length > 0) {
      options.overrides = [...(options.overrides ?? []), { match: { name: pattern }, look }];
    }
  }
  if (columns.size > 0) options.columns = [...columns.values()];
}

function transformNotes(model: Json, notes: Notes, subject: string): void {
  for (const transform of objects(model.transformations)) {
    if (transform.disabled !== true) notes.add('dropped', `the transformation "${String(transform.id)}"`, subject);
  }
}

function oldGraph(model: Json, options: PanelOptions, overrides: Override[], notes: Notes, subject: string): void {
  const axis = objects(model.yaxes)[0] ?? {};
  options.links ??= linksFrom(objects(object(model.options).dataLinks), notes, 'links on values', subject);
  options.unit ??= str(axis.format);
  options.min ??= num(axis.min);
  options.max ??= num(axis.max);
  if ((num(axis.logBase) ?? 1) > 1) options.log = true;
  if (model.stack === true) options.stack = model.percentage === true ? 'percent' : 'normal';
  if (num(model.fill) !== undefined) options.fill = Math.min((num(model.fill) ?? 0) / 10, 1);
  options.lineWidth ??= num(model.linewidth);
  if (model.bars === true) options.draw = 'bars';
  else if (model.points === true && model.lines === false) options.draw = 'points';
  if (model.steppedLine === true) options.stepped = true;
  const legend = object(model.legend);
  options.legend = legend.show === false ? 'none' : legend.alignAsTable === true ? 'table' : 'list';
  const columns = (['last', 'max', 'mean', 'min', 'sum'] as const).filter(
    (c) => legend[{ last: 'current', max: 'max', mean: 'avg', min: 'min', sum: 'total' }[c]] === true,
  );
  if (columns.length > 0) options.legendColumns = [...columns];
  for (const [name, colour] of Object.entries(object(model.aliasColors))) {
    if (typeof colour === 'string') overrides.push({ match: { name }, look: { colour } });
  }
  for (const series of objects(model.seriesOverrides)) {
    const alias = str(series.alias);
    if (!alias) continue;
    const look: FieldLook = prune({
      colour: str(series.color),
      negate: series.transform === 'negative-Y' || undefined,
      stack: series.stack === false ? ('none' as const) : undefined,
      fill: num(series.fill) === undefined ? undefined : Math.min((num(series.fill) ?? 0) / 10, 1),
      draw: series.bars === true ? ('bars' as const) : undefined,
      lineWidth: num(series.linewidth),
    });
    if (num(series.yaxis) === 2) notes.add('changed', 'a second axis on the right: one axis is drawn', subject);
    if (Object.keys(look).length > 0)
      overrides.push({ match: alias.startsWith('/') ? { pattern: alias } : { name: alias }, look });
  }
  if (overrides.length > 0) options.overrides = overrides;
  const marks = objects(model.thresholds);
  if (marks.length > 0 && !options.thresholds) {
    options.thresholds = marks.map((t) => ({
      value: num(t.value) ?? 0,
      colour: t.colorMode === 'ok' ? 'green' : t.colorMode === 'warning' ? 'orange' : 'red',
    }));
    options.showThresholds = true;
  }
}

function oldSinglestat(model: Json, options: PanelOptions): void {
  options.unit ??= str(model.format);
  options.decimals ??= num(model.decimals);
  options.reduce ??= REDUCERS[str(model.valueName) ?? ''] ?? undefined;
  const colours = list(model.colors).filter((c) => typeof c === 'string');
  const bounds = (str(model.thresholds) ?? '')
    .split(',')
    .map((t) => num(t))
    .filter((t) => t !== undefined);
  if (bounds.length > 0 && colours.length > bounds.length) {
    options.thresholds = [
      { value: null, colour: colours[0]! },
      ...bounds.map((value, i) => ({ value, colour: colours[i + 1]! })),
    ];
  }
  options.colourBy = model.colorBackground === true ? 'background' : model.colorValue === true ? 'value' : 'none';
  options.sparkline = object(model.sparkline).show === true;
  const gauge = object(model.gauge);
  if (gauge.show === true) {
    options.min ??= num(gauge.minValue);
    options.max ??= num(gauge.maxValue);
  }
  const texts = objects(model.valueMaps)
    .map(
      (m): Mapping => ({
        match: m.value === 'null' ? { special: 'null' } : { value: String(m.value ?? '') },
        text: str(m.text),
      }),
    )
    .filter((m) => m.text !== undefined);
  if (texts.length > 0) options.mappings = texts;
}

// --- Variables ------------------------------------------------------------------------------------------------------

const SORTS: Variable['sort'][] = ['none', 'asc', 'desc', 'numeric-asc', 'numeric-desc', 'asc', 'desc', 'asc', 'desc'];

function initialOf(current: unknown): string[] | undefined {
  const value = object(current).value;
  const values = (Array.isArray(value) ? value : [value]).filter((v) => typeof v === 'string' && v !== '');
  return values.length > 0 ? (values as string[]) : undefined;
}

function variablesOf(models: Json[], notes: Notes, sources: DataSources): Variable[] {
  const out: Variable[] = [];
  for (const model of models) {
    const name = str(model.name) ?? '';
    const type = str(model.type) ?? 'query';
    if (!/^\w+$/.test(name)) {
      notes.add('dropped', 'a variable without a proper name', name || undefined);
      continue;
    }
    const base = prune({ name, label: str(model.label) || undefined, hidden: model.hide === 2 || undefined });
    const many = prune({
      multi: model.multi === true || undefined,
      all: model.includeAll === true || undefined,
      allValue: str(model.allValue) || undefined,
    });
    switch (type) {
      case 'datasource':
        // Every query here goes to this server; nothing is lost.
        continue;
      case 'query': {
        const query =
          typeof model.query === 'string'
            ? model.query
            : (str(object(model.query).query) ?? str(model.definition) ?? '');
        const kind = sources.kind(model.datasource);
        if (kind && !SPEAKS_PROMQL.test(kind)) {
          notes.add('dropped', `a variable asked from "${kind}"`, name);
          continue;
        }
        out.push(
          prune({
            ...base,
            ...many,
            kind: 'query' as const,
            query,
            regex: str(model.regex) || undefined,
            sort: SORTS[num(model.sort) ?? 0] ?? 'none',
            initial: initialOf(model.current),
          }),
        );
        continue;
      }
      case 'custom':
      case 'interval': {
        const query =
          str(model.query) ||
          objects(model.options)
            .map((o) => str(o.value))
            .filter((v) => v && v !== '$__all')
            .join(',');
        const auto = type === 'interval' && model.auto === true;
        if (auto) notes.add('changed', 'the choice "auto" is now the first of its intervals', name);
        out.push(
          prune({
            ...base,
            ...(type === 'custom' ? many : {}),
            kind: type,
            query,
            initial: initialOf(model.current)?.filter((v) => !v.startsWith('$__auto')),
          }),
        );
        continue;
      }
      case 'textbox':
        out.push({ ...base, kind: 'text', query: str(object(model.current).value) ?? str(model.query) ?? '' });
        continue;
      case 'constant':
        out.push({
          ...base,
          kind: 'constant',
          query: str(model.query) ?? str(object(model.current).value) ?? '',
          hidden: true,
        });
        continue;
      case 'adhoc':
        if (sources.kind(model.datasource) && !SPEAKS_PROMQL.test(sources.kind(model.datasource)!)) {
          notes.add('dropped', `filters of "${sources.kind(model.datasource)}"; they are of PromQL here`, name);
          continue;
        }
        out.push({
          ...base,
          kind: 'filters',
          query: filtersText([...filtersOf(model.baseFilters, notes, name), ...filtersOf(model.filters, notes, name)]),
        });
        continue;
      default:
        notes.add('dropped', `a variable of type "${type}"`, name);
    }
  }
  return out;
}

function filtersOf(value: unknown, notes: Notes, name: string): Filter[] {
  return objects(value).flatMap((f): Filter[] => {
    const key = str(f.key) ?? '';
    const op = str(f.operator) ?? '=';
    const values = list(f.values).filter((v) => typeof v === 'string');
    if (key === '') return [];
    if (op === '=|' || op === '!=|')
      return [{ key, op: op === '=|' ? '=~' : '!~', value: values.map(escapeRegex).join('|') }];
    if (!(FILTER_OPERATORS as readonly string[]).includes(op)) {
      notes.add('dropped', `a filter with the operator "${op}"`, name);
      return [];
    }
    return [{ key, op: op as FilterOperator, value: str(f.value) ?? '' }];
  });
}

// --- The second format ----------------------------------------------------------------------------------------------

function fromV2(spec: Json): Imported {
  const notes = new Notes();
  const dashboard = emptyDashboard(str(spec.title) ?? 'Imported dashboard');
  dashboard.description = str(spec.description) || undefined;
  dashboard.tags = list(spec.tags).filter((t) => typeof t === 'string');
  const time = object(spec.timeSettings);
  if (str(time.from) && str(time.to)) dashboard.time = { from: str(time.from)!, to: str(time.to)! };
  dashboard.refresh = refreshOf(time.autoRefresh);
  const sources = new DataSources({});
  const variables = objects(spec.variables)
    .map(variableOfV2)
    .filter((v) => v !== null);
  dashboard.variables = variablesOf(variables, notes, sources);
  const ids = new Ids();
  const elements = object(spec.elements);
  const used = new Set<string>();
  const bottom = layoutOf(object(spec.layout), 0, { elements, used, ids, notes, sources, out: dashboard.panels });
  // Elements that no layout names would vanish without a word.
  let y = bottom;
  for (const name of Object.keys(elements)) {
    if (used.has(name)) continue;
    const model = classicOf(name, object(elements[name]), notes);
    if (!model) continue;
    dashboard.panels.push(panelOf(model, { x: 0, y, w: 12, h: 8 }, ids, notes, sources));
    y += 8;
  }
  dashboard.annotations = annotationsOf(objects(spec.annotations).map(annotationOfV2), notes, sources);
  dashboard.links = linksOf(objects(spec.links), notes);
  return account('v2', dashboard, notes.all);
}

interface LayoutContext {
  elements: Json;
  used: Set<string>;
  ids: Ids;
  notes: Notes;
  sources: DataSources;
  out: Panel[];
}

/** Lays a layout out from `top`; gives where it ends. */
function layoutOf(layout: Json, top: number, context: LayoutContext): number {
  const spec = object(layout.spec);
  const { elements, used, ids, notes, sources, out } = context;
  const put = (name: string, place: GridPlace, repeat: Json): void => {
    used.add(name);
    const model = classicOf(name, object(elements[name]), notes);
    if (!model) return;
    const panel = panelOf(model, place, ids, notes, sources);
    const variable = str(repeat.value);
    if (repeat.mode === 'variable' && variable) {
      panel.repeat = { variable, vertical: repeat.direction === 'v', perRow: num(repeat.maxPerRow) };
    }
    out.push(panel);
  };
  const nameOf = (item: Json): string => str(object(item.element).name) ?? '';
  switch (str(layout.kind)) {
    case 'RowsLayout': {
      let y = top;
      for (const row of objects(spec.rows)) {
        const inner = object(row.spec);
        if (inner.hideHeader !== true) {
          const repeat = object(inner.repeat);
          out.push(
            rowOf(
              {
                title: inner.title,
                collapsed: inner.collapse,
                repeat: repeat.mode === 'variable' ? repeat.value : undefined,
              },
              { x: 0, y, w: COLUMNS, h: 1 },
              ids,
            ),
          );
          y += 1;
        }
        y = layoutOf(object(inner.layout), y, context);
      }
      return y;
    }
    case 'TabsLayout': {
      let y = top;
      const tabs = objects(spec.tabs);
      if (tabs.length > 0) notes.add('changed', 'tabs are rows, one below the other');
      for (const tab of tabs) {
        const inner = object(tab.spec);
        out.push(rowOf({ title: inner.title }, { x: 0, y, w: COLUMNS, h: 1 }, ids));
        y = layoutOf(object(inner.layout), y + 1, context);
      }
      return y;
    }
    case 'AutoGridLayout':
    case 'ResponsiveGridLayout': {
      const across = Math.min(Math.max(Math.round(num(spec.maxColumnCount) ?? 3), 1), 8);
      const w = Math.floor(COLUMNS / across);
      const h = spec.rowHeightMode === 'short' ? 5 : spec.rowHeightMode === 'tall' ? 14 : 9;
      const items = objects(spec.items);
      items.forEach((item, i) => {
        const inner = object(item.spec);
        put(nameOf(inner), { x: (i % across) * w, y: top + Math.floor(i / across) * h, w, h }, object(inner.repeat));
      });
      return top + Math.ceil(items.length / across) * h;
    }
    default: {
      let bottom = top;
      for (const item of objects(spec.items)) {
        const inner = object(item.spec);
        if (item.kind === 'GridLayoutRow') {
          const y = top + (num(inner.y) ?? bottom - top);
          const repeat = object(inner.repeat);
          out.push(
            rowOf(
              { title: inner.title, collapsed: inner.collapsed, repeat: repeat.value },
              { x: 0, y, w: COLUMNS, h: 1 },
              ids,
            ),
          );
          bottom = Math.max(bottom, y + 1);
          for (const element of objects(inner.elements)) {
            const own = object(element.spec);
            const place = placeOf({ x: own.x, y: own.y, w: own.width, h: own.height }, { x: 0, y: 0, w: 12, h: 8 });
            place.y += y + 1;
            bottom = Math.max(bottom, place.y + place.h);
            put(nameOf(own), place, object(own.repeat));
          }
          continue;
        }
        const place = placeOf(
          { x: inner.x, y: inner.y, w: inner.width, h: inner.height },
          { x: 0, y: bottom - top, w: 12, h: 8 },
        );
        place.y += top;
        bottom = Math.max(bottom, place.y + place.h);
        put(nameOf(inner), place, object(inner.repeat));
      }
      return bottom;
    }
  }
}

/** An element of the second format as a panel of the first. */
function classicOf(name: string, element: Json, notes: Notes): Json | null {
  const spec = object(element.spec);
  if (element.kind === 'LibraryPanel') {
    notes.add('dropped', 'a library panel: its content is not in the file', str(spec.title) ?? name);
    return null;
  }
  if (element.kind !== 'Panel') {
    notes.add('dropped', `an element of kind "${String(element.kind ?? 'none')}"`, name);
    return null;
  }
  const group = object(object(spec.data).spec);
  const targets = objects(group.queries).map((query) => {
    const own = object(query.spec);
    const inner = object(own.query);
    const kind = str(inner.group) ?? (inner.kind === 'DataQuery' ? undefined : str(inner.kind));
    return {
      ...object(inner.spec),
      refId: own.refId,
      hide: own.hidden,
      datasource: {
        type: kind ?? str(object(own.datasource).type),
        uid: str(object(inner.datasource).name) ?? str(object(own.datasource).uid),
      },
    };
  });
  const viz = object(spec.vizConfig);
  const vizSpec = object(viz.spec);
  return {
    id: spec.id ?? name,
    title: spec.title,
    description: spec.description,
    links: spec.links,
    type: str(viz.group) ?? str(viz.kind) ?? 'timeseries',
    options: vizSpec.options,
    fieldConfig: vizSpec.fieldConfig,
    targets,
    transformations: objects(group.transformations).map((t) => ({ id: t.group ?? t.kind, ...object(t.spec) })),
    timeFrom: object(group.queryOptions).timeFrom,
    timeShift: object(group.queryOptions).timeShift,
  };
}

/** An annotation of the second format as one of the first. */
function annotationOfV2(annotation: Json): Json {
  const spec = object(annotation.spec);
  const query = object(spec.query);
  const group = str(query.group) ?? (query.kind === 'DataQuery' ? undefined : str(query.kind));
  return {
    ...object(spec.legacyOptions),
    ...spec,
    builtIn: spec.builtIn === true || group === 'grafana',
    target: { ...object(spec.target), ...object(query.spec) },
    datasource: group ? { type: group } : (query.datasource ?? spec.datasource),
  };
}

const V2_KINDS: Record<string, string> = {
  QueryVariable: 'query',
  CustomVariable: 'custom',
  TextVariable: 'textbox',
  ConstantVariable: 'constant',
  IntervalVariable: 'interval',
  DatasourceVariable: 'datasource',
  AdhocVariable: 'adhoc',
};

function variableOfV2(variable: Json): Json | null {
  const spec = object(variable.spec);
  const type = V2_KINDS[str(variable.kind) ?? ''] ?? str(variable.kind) ?? 'unknown';
  const query = object(spec.query);
  const inner = object(query.spec);
  const text =
    typeof spec.query === 'string'
      ? spec.query
      : (str(inner.query) ?? str(inner.__legacyStringValue) ?? str(inner.expr));
  const sorts: Record<string, number> = { alphabeticalAsc: 1, alphabeticalDesc: 2, numericalAsc: 3, numericalDesc: 4 };
  return {
    ...spec,
    type,
    query: text ?? str(spec.definition),
    hide: spec.hide === 'hideVariable' ? 2 : 0,
    sort: typeof spec.sort === 'string' ? (sorts[spec.sort] ?? 0) : spec.sort,
    datasource: str(query.group) ? { type: query.group } : spec.datasource,
  };
}
