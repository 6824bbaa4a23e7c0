// The table of screens. What a screen shows is in its address, checked here.

import {
  createRootRoute,
  createRoute,
  createRouter,
  Link,
  lazyRouteComponent,
  retainSearchParams,
} from '@tanstack/react-router';
import { CircleSlash } from 'lucide-react';
import { PageHead, Shell } from './components/Shell';
import { Empty, ErrorBox } from './components/states';
import { parseCells, type StoredCell, storedCells } from './lib/notebook';
import { MOST_PINS, pinTime } from './lib/pins';
import { isZone } from './lib/time';
import { KINDS, parseNs, STATES, type TraceForm } from './lib/traceform';
import type { GlobalSearch } from './state/clock';

type Raw = Record<string, unknown>;

/** A short text of the address; numbers in it arrive parsed. */
const text = (value: unknown, longest = 4000): string | undefined =>
  typeof value === 'string' && value !== '' && value.length <= longest
    ? value
    : typeof value === 'number'
      ? String(value)
      : undefined;

const oneOf = <T extends string>(value: unknown, choices: readonly T[]): T | undefined =>
  choices.includes(value as T) ? (value as T) : undefined;

const texts = (value: unknown, most = 8): string[] | undefined => {
  const list = (Array.isArray(value) ? value : [value]).map((v) => text(v, 20_000)).filter((v) => v !== undefined);
  return list.length > 0 ? list.slice(0, most) : undefined;
};

const whole = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;

/** A duration as queries write it. */
const duration = (value: unknown): string | undefined =>
  typeof value === 'string' && value.length <= 40 && parseNs(value) !== null ? value.trim() : undefined;

/** Leaves out what is absent, so that addresses stay short. */
function clean<T extends object>(search: T): T {
  return Object.fromEntries(Object.entries(search).filter(([, value]) => value !== undefined)) as T;
}

const rootRoute = createRootRoute({
  component: Shell,
  validateSearch: (raw: Raw): GlobalSearch =>
    clean({
      from: text(raw.from, 64),
      to: text(raw.to, 64),
      refresh: text(raw.refresh, 8),
      tz: typeof raw.tz === 'string' && isZone(raw.tz) ? raw.tz : undefined,
      tenant: text(raw.tenant, 64),
      kiosk: raw.kiosk === true || raw.kiosk === 1 || undefined,
    }),
  search: { middlewares: [retainSearchParams(['from', 'to', 'refresh', 'tz', 'tenant'])] },
  notFoundComponent: () => (
    <>
      <PageHead title="Not found" />
      <Empty icon={CircleSlash} title="There is no such page" actions={<Link to="/">Home</Link>}>
        The address may be from another version, or mistyped.
      </Empty>
    </>
  ),
  errorComponent: ({ error, reset }) => (
    <div className="page">
      <ErrorBox error={error} onRetry={reset} />
    </div>
  ),
});

const home = createRoute({
  getParentRoute: () => rootRoute,
  path: '/',
  component: lazyRouteComponent(() => import('./pages/Home')),
});

export const VIEWS = ['chart', 'stat', 'table', 'heatmap', 'plan'] as const;

/** What a series comes to, as one number. */
export const FIGURES = ['last', 'mean', 'max', 'min', 'sum'] as const;

export interface ExploreSearch {
  q?: string[];
  view?: (typeof VIEWS)[number];
  stack?: boolean;
  step?: string;
  /** Series that are asked for at most. */
  limit?: number;
  /** Other than the last value. */
  figure?: (typeof FIGURES)[number];
  exemplars?: boolean;
  /** A part of the chart that is chosen, `FROM-TO` in milliseconds. */
  part?: string;
  /** A part of the heatmap, `FROM-TO,LOWER..UPPER`. */
  box?: string;
  /** What tells the chosen part from the rest. */
  compare?: boolean;
  /** Of the series of which query, from 1 on; the first. */
  of?: number;
}

const explore = createRoute({
  getParentRoute: () => rootRoute,
  path: '/explore',
  validateSearch: (raw: Raw): ExploreSearch =>
    clean({
      q: texts(raw.q),
      view: oneOf(raw.view, VIEWS),
      stack: raw.stack === true || undefined,
      step: text(raw.step, 16),
      limit: whole(raw.limit),
      figure: oneOf(raw.figure, FIGURES),
      exemplars: raw.exemplars === true || undefined,
      part: text(raw.part, 40),
      box: text(raw.box, 100),
      compare: raw.compare === true || undefined,
      of: whole(raw.of) || undefined,
    }),
  component: lazyRouteComponent(() => import('./pages/Explore')),
});

export interface MetricsSearch {
  search?: string;
  type?: 'counter' | 'gauge' | 'histogram' | 'summary' | 'unknown';
  metric?: string;
  by?: string;
}

const metrics = createRoute({
  getParentRoute: () => rootRoute,
  path: '/browse',
  validateSearch: (raw: Raw): MetricsSearch =>
    clean({
      search: text(raw.search, 200),
      type: oneOf(raw.type, ['counter', 'gauge', 'histogram', 'summary', 'unknown'] as const),
      metric: text(raw.metric, 1000),
      by: text(raw.by, 1000),
    }),
  component: lazyRouteComponent(() => import('./pages/Metrics')),
});

export interface LogsSearch {
  q?: string;
  view?: 'patterns';
  live?: boolean;
  /** The record that is open. */
  row?: string;
  columns?: string[];
  wrap?: boolean;
  /** Shows sequences for terminals as they are, not what they mean. */
  raw?: boolean;
  /** Records that stay in sight. */
  pins?: string[];
  /** A part of the bars that is chosen, `FROM-TO` in milliseconds. */
  part?: string;
  /** What tells the chosen part from the rest. */
  compare?: boolean;
}

const logs = createRoute({
  getParentRoute: () => rootRoute,
  path: '/logs',
  validateSearch: (raw: Raw): LogsSearch =>
    clean({
      q: text(raw.q, 20_000),
      view: oneOf(raw.view, ['patterns'] as const),
      live: raw.live === true || undefined,
      row: text(raw.row, 100),
      columns: texts(raw.columns),
      wrap: raw.wrap === true || undefined,
      raw: raw.raw === true || undefined,
      pins: texts(raw.pins, MOST_PINS)?.filter((pin) => pinTime(pin) !== null),
      part: text(raw.part, 40),
      compare: raw.compare === true || undefined,
    }),
  component: lazyRouteComponent(() => import('./pages/Logs')),
});

export const ORDERS = ['newest', 'slowest'] as const;

export interface TracesSearch extends TraceForm {
  order?: (typeof ORDERS)[number];
  /** A part of the picture that is chosen: `FROM-TO` in milliseconds, and durations in nanoseconds. */
  box?: string;
  /** What tells the chosen part from the rest. */
  compare?: boolean;
}

const traces = createRoute({
  getParentRoute: () => rootRoute,
  path: '/traces',
  validateSearch: (raw: Raw): TracesSearch =>
    clean({
      q: text(raw.q, 20_000),
      service: text(raw.service, 1000),
      operation: text(raw.operation, 1000),
      kind: oneOf(raw.kind, KINDS),
      status: oneOf(raw.status, STATES),
      tags: texts(raw.tags, 20),
      roots: raw.roots === true || undefined,
      dmin: duration(raw.dmin),
      dmax: duration(raw.dmax),
      min: duration(raw.min),
      max: duration(raw.max),
      order: oneOf(raw.order, ORDERS),
      box: text(raw.box, 100),
      compare: raw.compare === true || undefined,
    }),
  component: lazyRouteComponent(() => import('./pages/Traces')),
});

export const TRACE_VIEWS = ['flame', 'graph', 'compare'] as const;

export interface TraceSearch {
  /** Instead of the tree. */
  view?: (typeof TRACE_VIEWS)[number];
  /** The span that is open. */
  span?: string;
  find?: string;
  /** Shows also what is not found. */
  all?: boolean;
  critical?: boolean;
  levels?: number;
  /** Spans that are open or closed against their level. */
  fold?: string[];
  /** The stretch of time, `FROM-TO` in nanoseconds after the start. */
  time?: string;
  /** Shows gaps as long as they are. */
  gaps?: boolean;
  /** The id of another trace, to compare. */
  with?: string;
}

const trace = createRoute({
  getParentRoute: () => rootRoute,
  path: '/trace/$id',
  validateSearch: (raw: Raw): TraceSearch =>
    clean({
      view: oneOf(raw.view, TRACE_VIEWS),
      span: text(raw.span, 64),
      find: text(raw.find, 1000),
      all: raw.all === true || undefined,
      critical: raw.critical === true || undefined,
      levels: whole(raw.levels) || undefined,
      fold: texts(raw.fold, 200),
      time: text(raw.time, 64),
      gaps: raw.gaps === true || undefined,
      with: text(raw.with, 64),
    }),
  component: lazyRouteComponent(() => import('./pages/Trace')),
});

export const SERVICE_VIEWS = ['map'] as const;

export interface ServicesSearch {
  service?: string;
  view?: (typeof SERVICE_VIEWS)[number];
  find?: string;
  /** Of a service: the kind of spans that its numbers are of. */
  kind?: string;
}

const services = createRoute({
  getParentRoute: () => rootRoute,
  path: '/services',
  validateSearch: (raw: Raw): ServicesSearch =>
    clean({
      service: text(raw.service, 1000),
      view: oneOf(raw.view, SERVICE_VIEWS),
      find: text(raw.find, 200),
      kind: oneOf(raw.kind, KINDS),
    }),
  component: lazyRouteComponent(() => import('./pages/Services')),
});

export interface SqlSearch {
  /** The cells of the notebook. */
  c?: StoredCell[];
  name?: string;
}

const cells = (value: unknown): StoredCell[] | undefined => {
  const list = storedCells(parseCells(value));
  return list.length > 0 ? list : undefined;
};

const sql = createRoute({
  getParentRoute: () => rootRoute,
  path: '/sql',
  validateSearch: (raw: Raw): SqlSearch => clean({ c: cells(raw.c), name: text(raw.name, 100) }),
  component: lazyRouteComponent(() => import('./pages/Sql')),
});

export const AGO = ['1h', '1d', '7d'] as const;

export interface CardinalitySearch {
  limit?: number;
  focus?: string;
  find?: string;
  /** What the present counts are compared with: so long ago. */
  ago?: (typeof AGO)[number];
}

const cardinality = createRoute({
  getParentRoute: () => rootRoute,
  path: '/cardinality',
  validateSearch: (raw: Raw): CardinalitySearch =>
    clean({
      limit: [10, 20, 50, 100, 500].includes(raw.limit as number) ? (raw.limit as number) : undefined,
      focus: text(raw.focus, 2000),
      find: text(raw.find, 200),
      ago: oneOf(raw.ago, AGO),
    }),
  component: lazyRouteComponent(() => import('./pages/Cardinality')),
});

export const ONLY = ['broken', 'late', 'moving'] as const;
export type Only = (typeof ONLY)[number];

export interface ClusterSearch {
  shard?: number;
  node?: number;
  view?: 'ring';
  only?: Only;
  find?: string;
}

const cluster = createRoute({
  getParentRoute: () => rootRoute,
  path: '/cluster',
  validateSearch: (raw: Raw): ClusterSearch =>
    clean({
      shard: whole(raw.shard),
      node: whole(raw.node),
      view: oneOf(raw.view, ['ring'] as const),
      only: oneOf(raw.only, ONLY),
      find: text(raw.find, 200),
    }),
  component: lazyRouteComponent(() => import('./pages/Cluster')),
});

export const ADMIN_TABS = ['queries', 'tenants', 'node', 'config', 'flags'] as const;

export interface AdminSearch {
  tab?: (typeof ADMIN_TABS)[number];
  find?: string;
}

const admin = createRoute({
  getParentRoute: () => rootRoute,
  path: '/admin',
  validateSearch: (raw: Raw): AdminSearch => clean({ tab: oneOf(raw.tab, ADMIN_TABS), find: text(raw.find, 200) }),
  component: lazyRouteComponent(() => import('./pages/Admin')),
});

const dashboards = createRoute({
  getParentRoute: () => rootRoute,
  path: '/dashboards',
  validateSearch: (raw: Raw): { find?: string; import?: boolean } =>
    clean({ find: text(raw.find, 200), import: raw.import === true || undefined }),
  component: lazyRouteComponent(() => import('./pages/Dashboards')),
});

export interface DashboardSearch {
  panel?: string;
  edit?: string;
  version?: number;
  /** Of the panel that is shown alone: a part of its time that is chosen, and what tells it from the rest, as in Explore. */
  part?: string;
  compare?: boolean;
  of?: number;
  /** Two versions that are compared, `FROM-TO`; 0 is what is not saved. */
  diff?: string;
  /** Annotations that are switched other than the dashboard says: `+NAME`, `-NAME`. */
  marks?: string[];
  /** Variables, `v-NAME`. */
  [variable: `v-${string}`]: string | string[] | undefined;
}

const dashboard = createRoute({
  getParentRoute: () => rootRoute,
  path: '/dashboards/$uid',
  validateSearch: (raw: Raw): DashboardSearch => {
    const out: DashboardSearch = {
      panel: text(raw.panel, 64),
      edit: text(raw.edit, 64),
      version: whole(raw.version),
      part: text(raw.part, 40),
      compare: raw.compare === true || undefined,
      of: whole(raw.of) || undefined,
      diff: text(raw.diff, 24),
      marks: texts(raw.marks, 99),
    };
    for (const [key, value] of Object.entries(raw)) {
      if (!key.startsWith('v-')) continue;
      const values = (Array.isArray(value) ? value : [value])
        .map((v) => (v === '' ? '' : text(v, 2000)))
        .filter((v) => v !== undefined);
      if (values.length > 0) out[key as `v-${string}`] = values.length === 1 ? values[0] : values.slice(0, 500);
    }
    return clean(out);
  },
  component: lazyRouteComponent(() => import('./pages/DashboardPage')),
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    home,
    explore,
    metrics,
    logs,
    traces,
    trace,
    services,
    sql,
    cardinality,
    cluster,
    admin,
    dashboards,
    dashboard,
  ]),
  basepath: new URL(document.baseURI).pathname,
  defaultPreload: 'intent',
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
