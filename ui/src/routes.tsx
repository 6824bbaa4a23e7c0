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
      tz: oneOf(raw.tz, ['utc', 'local'] as const),
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

export const VIEWS = ['chart', 'table', 'heatmap', 'plan'] as const;

export interface ExploreSearch {
  q?: string[];
  view?: (typeof VIEWS)[number];
  stack?: boolean;
  step?: string;
  exemplars?: boolean;
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
      exemplars: raw.exemplars === true || undefined,
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
    }),
  component: lazyRouteComponent(() => import('./pages/Logs')),
});

export interface SqlSearch {
  /** The statements of the notebook. */
  c?: string[];
  name?: string;
}

export const MOST_CELLS = 30;

const sql = createRoute({
  getParentRoute: () => rootRoute,
  path: '/sql',
  validateSearch: (raw: Raw): SqlSearch => clean({ c: texts(raw.c, MOST_CELLS), name: text(raw.name, 100) }),
  component: lazyRouteComponent(() => import('./pages/Sql')),
});

export interface CardinalitySearch {
  limit?: number;
  focus?: string;
}

const cardinality = createRoute({
  getParentRoute: () => rootRoute,
  path: '/cardinality',
  validateSearch: (raw: Raw): CardinalitySearch =>
    clean({
      limit: [10, 20, 50, 100, 500].includes(raw.limit as number) ? (raw.limit as number) : undefined,
      focus: text(raw.focus, 2000),
    }),
  component: lazyRouteComponent(() => import('./pages/Cardinality')),
});

export interface ClusterSearch {
  shard?: number;
  node?: number;
}

const whole = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;

const cluster = createRoute({
  getParentRoute: () => rootRoute,
  path: '/cluster',
  validateSearch: (raw: Raw): ClusterSearch => clean({ shard: whole(raw.shard), node: whole(raw.node) }),
  component: lazyRouteComponent(() => import('./pages/Cluster')),
});

export const ADMIN_TABS = ['queries', 'node', 'config', 'flags'] as const;

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
  /** Variables, `v-NAME`. */
  [variable: `v-${string}`]: string | string[] | undefined;
}

const dashboard = createRoute({
  getParentRoute: () => rootRoute,
  path: '/dashboards/$uid',
  validateSearch: (raw: Raw): DashboardSearch => {
    const out: DashboardSearch = { panel: text(raw.panel, 64), edit: text(raw.edit, 64), version: whole(raw.version) };
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
