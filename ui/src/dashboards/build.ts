// Short words for writing dashboards in code: a line of panels at a time, laid out from the top.

import {
  COLUMNS,
  type Dashboard,
  emptyDashboard,
  type Panel,
  type PanelKind,
  type PanelOptions,
  type Variable,
} from '../lib/dashboard/model';

export interface Spec {
  kind: PanelKind;
  title: string;
  what?: string;
  /** `[query, legend]` each. */
  ask: [string, string?][];
  options?: PanelOptions;
  instant?: boolean;
}

export const lines = (
  title: string,
  unit: string,
  ask: Spec['ask'],
  options: PanelOptions = {},
  what?: string,
): Spec => ({
  kind: 'timeseries',
  title,
  what,
  ask,
  options: { unit, legend: 'list', ...options },
});

export const figure = (
  title: string,
  unit: string,
  query: string,
  options: PanelOptions = {},
  what?: string,
): Spec => ({
  kind: 'stat',
  title,
  what,
  ask: [[query]],
  options: { unit, sparkline: true, colourBy: 'value', ...options },
});

export const bars = (
  title: string,
  unit: string,
  ask: Spec['ask'],
  options: PanelOptions = {},
  what?: string,
): Spec => ({
  kind: 'bar',
  title,
  what,
  ask,
  instant: true,
  options: { unit, horizontal: true, ...options },
});

export const heat = (title: string, unit: string, query: string, what?: string): Spec => ({
  kind: 'heatmap',
  title,
  what,
  ask: [[query]],
  options: { unit },
});

export const good = (bad: number): PanelOptions => ({
  thresholds: [
    { value: null, colour: 'green' },
    { value: bad, colour: 'red' },
  ],
});

export const rising = (warn: number, bad: number): PanelOptions => ({
  thresholds: [
    { value: null, colour: 'green' },
    { value: warn, colour: 'yellow' },
    { value: bad, colour: 'red' },
  ],
});

export const variable = (name: string, query: string, label: string, more: Partial<Variable> = {}): Variable => ({
  name,
  label,
  kind: 'query',
  query,
  sort: 'asc',
  multi: true,
  all: true,
  ...more,
});

/** Lines of panels: each line is as wide as the grid, its panels share it. A text begins a row. */
export function dashboard(
  title: string,
  description: string,
  content: (string | { height: number; panels: Spec[] })[],
  variables: Variable[] = [],
): Dashboard {
  const panels: Panel[] = [];
  let y = 0;
  let id = 1;
  for (const line of content) {
    if (typeof line === 'string') {
      panels.push({
        id: String(id++),
        kind: 'row',
        title: line,
        grid: { x: 0, y, w: COLUMNS, h: 1 },
        queries: [],
        options: {},
      });
      y += 1;
      continue;
    }
    const width = Math.floor(COLUMNS / line.panels.length);
    line.panels.forEach((spec, i) => {
      panels.push({
        id: String(id++),
        kind: spec.kind,
        title: spec.title,
        description: spec.what,
        grid: { x: i * width, y, w: i === line.panels.length - 1 ? COLUMNS - i * width : width, h: line.height },
        queries: spec.ask.map(([expr, legend], n) => ({
          ref: String.fromCharCode(65 + n),
          expr,
          ...(legend === undefined ? {} : { legend }),
          ...(spec.instant ? { instant: true } : {}),
        })),
        options: spec.options ?? {},
      });
    });
    y += line.height;
  }
  return { ...emptyDashboard(title), description, variables, panels };
}
