import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUILTIN } from '../../dashboards';
import { importText, importValue } from './grafana';
import { begin, edit, redo, undo } from './history';
import { layOut } from './layout';
import {
  checkDashboard,
  emptyDashboard,
  freshPanel,
  lookOf,
  type Panel,
  safeColour,
  showValue,
  thresholdColour,
  type Variable,
} from './model';
import {
  ALL,
  applyRegex,
  builtins,
  type Chosen,
  choose,
  customValues,
  interpolate,
  parseVariableQuery,
} from './variables';

const variable = (name: string, part: Partial<Variable> = {}): Variable => ({
  name,
  kind: 'query',
  query: '',
  ...part,
});
const chosen = (name: string, values: string[], options = values, part: Partial<Variable> = {}): Chosen => ({
  variable: variable(name, part),
  values,
  options,
});

describe('variables in queries', () => {
  const scope = {
    one: chosen('one', ['a.b']),
    many: chosen('many', ['a.b', 'c"d'], ['a.b', 'c"d', 'e'], { multi: true }),
    all: chosen('all', [ALL], ['x', 'y'], { multi: true, all: true }),
    own: chosen('own', [ALL], ['x'], { all: true, allValue: '.*' }),
    ...builtins({ from: 0, to: 3_600_000 }, 15_000),
  };
  it.each([
    ['up{a="$one"}', 'up{a="a.b"}'],
    ['up{a=~"$many"}', 'up{a=~"(a\\\\.b|c\\"d)"}'],
    ['up{a=~"${all}"}', 'up{a=~"(x|y)"}'],
    ['up{a=~"[[all]]"}', 'up{a=~"(x|y)"}'],
    ['up{a=~"$own"}', 'up{a=~".*"}'],
    ['${many:csv} ${many:pipe}', 'a.b,c"d a.b|c"d'],
    ['${one:regex}', 'a\\.b'],
    ['rate(x[$__rate_interval])', 'rate(x[1m])'],
    ['x[$__range] $__interval_ms', 'x[3600s] 15000'],
    ['$unknown ${unknown} $1', '$unknown ${unknown} $1'],
    ['$constructor', '$constructor'],
  ])('%s', (text, expected) => expect(interpolate(text, scope)).toBe(expected));
  it('titles show what is chosen', () => expect(interpolate('of $many', scope, 'text')).toBe('of a.b + c"d'));
});

describe('what variables ask', () => {
  it.each([
    ['label_values(job)', { kind: 'values', selector: null, label: 'job' }],
    [
      'label_values(up{a="b,c)", d=~"x|y"}, instance)',
      { kind: 'values', selector: 'up{a="b,c)", d=~"x|y"}', label: 'instance' },
    ],
    ['label_values(rate(up[5m]) > 0, job)', { kind: 'values', selector: 'rate(up[5m]) > 0', label: 'job' }],
    ['label_names()', { kind: 'labels', selector: null }],
    ['metrics(node_.*)', { kind: 'metrics', pattern: 'node_.*' }],
    ['query_result(topk(5, up))', { kind: 'result', expr: 'topk(5, up)' }],
    ['up{job="a"}', { kind: 'series', selector: 'up{job="a"}' }],
    ['', null],
  ])('%s', (text, expected) => expect(parseVariableQuery(text)).toEqual(expected));
  it('a group of its pattern is what counts', () => {
    expect(applyRegex(['a:9100', 'b:9100', 'a:9200', 'c'], '/(.*):9100/')).toEqual(['a', 'b']);
    expect(applyRegex(['a', 'b'], '/(/')).toEqual(['a', 'b']);
    expect(applyRegex(['x-1', 'y-2'], '/(?<value>\\w)-/')).toEqual(['x', 'y']);
  });
  it('lists are written with commas', () => {
    expect(customValues('1m, 5m,a\\,b, name : value')).toEqual(['1m', '5m', 'a,b', 'value']);
  });
  it('chooses from the address, the document, or the first', () => {
    expect(choose(variable('v'), ['a', 'b'], undefined)).toEqual(['a']);
    expect(choose(variable('v', { initial: ['b'] }), ['a', 'b'], undefined)).toEqual(['b']);
    expect(choose(variable('v', { all: true }), ['a', 'b'], undefined)).toEqual([ALL]);
    expect(choose(variable('v', { multi: true }), ['a', 'b'], ['b', 'a'])).toEqual(['b', 'a']);
    expect(choose(variable('v'), ['a', 'b'], ['b', 'a'])).toEqual(['b']);
    expect(choose(variable('v'), ['a'], 'gone')).toEqual(['gone']);
    expect(choose(variable('v', { kind: 'custom' }), ['a'], 'gone')).toEqual(['a']);
  });
});

describe('layout', () => {
  const panel = (id: string, x: number, y: number, w: number, h: number, part: Partial<Panel> = {}): Panel => ({
    id,
    kind: 'timeseries',
    title: id,
    grid: { x, y, w, h },
    queries: [],
    options: {},
    ...part,
  });
  const places = (panels: Panel[], scope = {}, folded: string[] = []) =>
    layOut(panels, scope, new Set(folded)).panels.map(
      (s) => `${s.key} ${s.grid.x},${s.grid.y} ${s.grid.w}x${s.grid.h}`,
    );
  const scope = { v: chosen('v', [ALL], ['a', 'b', 'c'], { all: true }) };
  it('repeats across and moves what is below', () => {
    expect(
      places([panel('1', 0, 0, 24, 4, { repeat: { variable: 'v', perRow: 2 } }), panel('2', 0, 4, 12, 5)], scope),
    ).toEqual(['1:a 0,0 12x4', '1:b 12,0 12x4', '1:c 0,4 12x4', '2 0,8 12x5']);
  });
  it('folds rows and closes the gap', () => {
    const row = panel('r', 0, 4, 24, 1, { kind: 'row' });
    const all = [
      panel('1', 0, 0, 24, 4),
      row,
      panel('2', 0, 5, 24, 6),
      panel('s', 0, 11, 24, 1, { kind: 'row' }),
      panel('3', 0, 12, 8, 3),
    ];
    expect(places(all, {}, ['r'])).toEqual(['1 0,0 24x4', 'r 0,4 24x1', 's 0,5 24x1', '3 0,6 8x3']);
    expect(places(all)).toEqual(['1 0,0 24x4', 'r 0,4 24x1', '2 0,5 24x6', 's 0,11 24x1', '3 0,12 8x3']);
  });
  it('repeats rows with their panels, each with one value', () => {
    const laid = layOut(
      [panel('r', 0, 0, 24, 1, { kind: 'row', repeat: { variable: 'v' } }), panel('1', 0, 1, 24, 4)],
      scope,
      new Set(),
    );
    expect(laid.panels.map((s) => s.key)).toEqual(['r:a', '1:a', 'r:b', '1:b', 'r:c', '1:c']);
    expect(interpolate('$v', { ...scope, ...laid.panels[3]!.own })).toBe('b');
  });
  it('does not draw more than a hundred copies, and says how many it left out', () => {
    const many = {
      v: chosen(
        'v',
        [ALL],
        Array.from({ length: 130 }, (_, i) => `n${i}`),
        { all: true },
      ),
    };
    const laid = layOut([panel('1', 0, 0, 6, 4, { repeat: { variable: 'v' } })], many, new Set());
    expect([laid.panels.length, laid.leftOut]).toEqual([100, 30]);
  });
});

describe('looks', () => {
  it('takes colours and nothing else', () => {
    expect(safeColour('#ff0000')).toBe('#ff0000');
    expect(safeColour('rgba(1, 2, 3, 0.5)')).toBe('rgba(1, 2, 3, 0.5)');
    expect(safeColour('dark-red')).toBe('var(--critical)');
    for (const bad of ['url(https://evil)', 'red;background:url(x)', 'expression(1)', 'constructor'])
      expect(typeof safeColour(bad) === 'string').toBe(false);
  });
  it('finds steps and mappings', () => {
    const look = {
      thresholds: [
        { value: null, colour: '#111111' },
        { value: 80, colour: '#222222' },
      ],
      mappings: [
        { match: { value: '0' }, text: 'down' },
        { match: { from: 5, to: null }, text: 'many' },
      ],
    };
    expect(thresholdColour(79, look)).toBe('#111111');
    expect(thresholdColour(80, look)).toBe('#222222');
    expect(showValue(0, look).text).toBe('down');
    expect(showValue(7, look).text).toBe('many');
    expect(showValue(null, look, 'none').text).toBe('none');
  });
  it('overrides count in their order', () => {
    const options = {
      unit: 's',
      overrides: [
        { match: { pattern: '/^read/' }, look: { unit: 'bytes' } },
        { match: { name: 'read b' }, look: { colour: 'red' } },
        { match: { pattern: '(' }, look: { unit: 'x' } },
      ],
    };
    expect(lookOf(options, 'read b')).toMatchObject({ unit: 'bytes', colour: 'red' });
    expect(lookOf(options, 'write').unit).toBe('s');
  });
});

describe('undo', () => {
  it('goes back and forth, and typing is one step', () => {
    let edits = begin('a');
    edits = edit(edits, 'ab', 'title', 0);
    edits = edit(edits, 'abc', 'title', 100);
    edits = edit(edits, 'abc!', 'layout', 200);
    expect(undo(edits).now).toBe('abc');
    expect(undo(undo(edits)).now).toBe('a');
    expect(undo(undo(undo(edits))).now).toBe('a');
    expect(redo(undo(undo(edits))).now).toBe('abc');
    expect(edit(undo(edits), 'new', 'x', 300).future).toEqual([]);
  });

  it('takes what a dialog changes as one step, and what the next one changes as another', () => {
    let edits = begin('a');
    edits = edit(edits, 'ab', 'settings 1', 0, Infinity);
    edits = edit(edits, 'abc', 'settings 1', 60_000, Infinity);
    edits = edit(edits, 'abcd', 'settings 2', 60_100, Infinity);
    expect(undo(edits).now).toBe('abc');
    expect(undo(undo(edits)).now).toBe('a');
  });
});

describe('import', () => {
  const classic = {
    title: 'T',
    schemaVersion: 39,
    templating: {
      list: [
        { type: 'datasource', name: 'ds', query: 'prometheus' },
        {
          type: 'query',
          name: 'job',
          query: { query: 'label_values(up, job)' },
          multi: true,
          includeAll: true,
          sort: 1,
        },
      ],
    },
    panels: [
      {
        id: 1,
        type: 'row',
        title: 'Folded',
        collapsed: true,
        gridPos: { x: 0, y: 0, w: 24, h: 1 },
        panels: [
          {
            id: 2,
            type: 'stat',
            title: 'Up',
            gridPos: { x: 0, y: 1, w: 6, h: 4 },
            targets: [{ refId: 'A', expr: 'up', datasource: { type: 'prometheus', uid: '$ds' } }],
          },
        ],
      },
      {
        id: 3,
        type: 'timeseries',
        title: 'Rate',
        gridPos: { x: 0, y: 1, w: 12, h: 8 },
        targets: [
          { refId: 'A', expr: 'rate(x[5m])', legendFormat: '{{job}}' },
          { refId: 'B', datasource: { type: 'loki' }, expr: '{a="b"}' },
        ],
      },
      { id: 3, type: 'geomap', title: 'Map', gridPos: { x: 12, y: 1, w: 12, h: 8 }, targets: [] },
    ],
  };
  it('takes the classic model, and says what it leaves', () => {
    const { source, dashboard, notes } = importValue(classic);
    expect(source).toBe('classic');
    expect(dashboard.panels.map((p) => [p.id, p.kind, p.grid.y])).toEqual([
      ['1', 'row', 0],
      ['2', 'stat', 1],
      ['3', 'timeseries', 5],
      ['3-1', 'text', 5],
    ]);
    expect(dashboard.variables.map((v) => v.name)).toEqual(['job']);
    expect(notes.map((n) => `${n.subject}: ${n.text}`)).toEqual([
      'Rate: queries whose answers are of another kind than the rest of the panel',
      'Map: a panel of type "geomap"',
    ]);
    expect(checkDashboard(JSON.parse(JSON.stringify(dashboard)))).toEqual(dashboard);
  });
  it('takes resources of version 1 and what an API wraps', () => {
    const v1 = importValue({
      apiVersion: 'dashboard.grafana.app/v1beta1',
      kind: 'Dashboard',
      metadata: { name: 'x' },
      spec: classic,
    });
    expect([v1.source, v1.panels]).toEqual(['v1', 3]);
    expect(importValue({ dashboard: classic, meta: {} }).dashboard.panels.length).toBe(4);
  });
  it('takes resources of version 2, with rows, tabs, grids and repeats', () => {
    const panel = (id: number, group: string, expr: string) => ({
      kind: 'Panel',
      spec: {
        id,
        title: `P${id}`,
        data: {
          kind: 'QueryGroup',
          spec: {
            queries: [
              {
                kind: 'PanelQuery',
                spec: {
                  refId: 'A',
                  hidden: false,
                  query: { kind: 'DataQuery', group: 'prometheus', version: 'v0', spec: { expr, legendFormat: 'l' } },
                },
              },
            ],
            transformations: [],
          },
        },
        vizConfig: {
          kind: 'VizConfig',
          group,
          version: '1',
          spec: {
            options: {},
            fieldConfig: { defaults: { unit: 's', custom: { stacking: { mode: 'normal' } } }, overrides: [] },
          },
        },
      },
    });
    const item = (name: string, x: number, y: number) => ({
      kind: 'GridLayoutItem',
      spec: {
        x,
        y,
        width: 12,
        height: 8,
        element: { kind: 'ElementReference', name },
        repeat: name === 'a' ? { mode: 'variable', value: 'job', direction: 'h', maxPerRow: 3 } : undefined,
      },
    });
    const { source, dashboard, notes } = importValue({
      apiVersion: 'dashboard.grafana.app/v2beta1',
      kind: 'Dashboard',
      spec: {
        title: 'V2',
        tags: ['t'],
        timeSettings: { from: 'now-3h', to: 'now', autoRefresh: '1m' },
        elements: {
          a: panel(1, 'timeseries', 'up'),
          b: panel(2, 'stat', 'down'),
          c: panel(3, 'table', 'x'),
          lib: { kind: 'LibraryPanel', spec: { title: 'L' } },
        },
        layout: {
          kind: 'RowsLayout',
          spec: {
            rows: [
              {
                kind: 'RowsLayoutRow',
                spec: {
                  title: 'One',
                  collapse: true,
                  layout: { kind: 'GridLayout', spec: { items: [item('a', 0, 0), item('b', 12, 0)] } },
                },
              },
              {
                kind: 'RowsLayoutRow',
                spec: {
                  title: 'Two',
                  layout: {
                    kind: 'AutoGridLayout',
                    spec: {
                      maxColumnCount: 2,
                      items: [{ kind: 'AutoGridLayoutItem', spec: { element: { name: 'c' } } }],
                    },
                  },
                },
              },
            ],
          },
        },
        variables: [
          {
            kind: 'QueryVariable',
            spec: {
              name: 'job',
              sort: 'alphabeticalDesc',
              multi: true,
              includeAll: true,
              query: { kind: 'DataQuery', group: 'prometheus', spec: { query: 'label_values(up, job)' } },
            },
          },
          { kind: 'GroupByVariable', spec: { name: 'g' } },
        ],
      },
    });
    expect(source).toBe('v2');
    expect(dashboard.panels.map((p) => [p.title, p.kind, p.grid.y])).toEqual([
      ['One', 'row', 0],
      ['P1', 'timeseries', 1],
      ['P2', 'stat', 1],
      ['Two', 'row', 9],
      ['P3', 'table', 10],
    ]);
    expect(dashboard.panels[1]).toMatchObject({
      repeat: { variable: 'job', perRow: 3 },
      queries: [{ ref: 'A', expr: 'up', legend: 'l' }],
      options: { unit: 's', stack: 'normal' },
    });
    expect(dashboard.variables).toMatchObject([
      { name: 'job', query: 'label_values(up, job)', sort: 'desc', multi: true, all: true },
    ]);
    expect([dashboard.time.from, dashboard.refresh]).toEqual(['now-3h', '1m']);
    expect(notes.map((n) => n.text)).toEqual([
      'a variable of type "GroupByVariable"',
      'a library panel: its content is not in the file',
    ]);
  });
  it('takes the rows of before the grid', () => {
    const { dashboard } = importValue({
      title: 'Old',
      rows: [
        {
          title: 'A',
          height: '300px',
          showTitle: true,
          panels: [
            { id: 1, type: 'graph', span: 8, stack: true, yaxes: [{ format: 'bytes' }], targets: [{ expr: 'a' }] },
            {
              id: 2,
              type: 'singlestat',
              span: 4,
              format: 's',
              valueName: 'avg',
              thresholds: '1,2',
              colors: ['green', 'yellow', 'red'],
              colorValue: true,
              targets: [{ expr: 'b' }],
            },
          ],
        },
        { title: 'B', collapse: true, panels: [{ id: 3, type: 'text', content: '# Hi', mode: 'markdown', span: 12 }] },
      ],
    });
    expect(dashboard.panels.map((p) => [p.kind, p.grid.x, p.grid.y, p.grid.w])).toEqual([
      ['row', 0, 0, 24],
      ['timeseries', 0, 1, 16],
      ['stat', 16, 1, 8],
      ['row', 0, 11, 24],
      ['text', 0, 12, 24],
    ]);
    expect(dashboard.panels[1]!.options).toMatchObject({ unit: 'bytes', stack: 'normal' });
    expect(dashboard.panels[2]!.options).toMatchObject({
      reduce: 'mean',
      unit: 's',
      thresholds: [
        { value: null, colour: 'green' },
        { value: 1, colour: 'yellow' },
        { value: 2, colour: 'red' },
      ],
    });
  });
  it.each(['', '[]', 'null', '{}', '{"title": 1}', '{"panels": 5}', 'not json'])('refuses %s', (text) =>
    expect(() => importText(text)).toThrow(),
  );
  it('survives nonsense in every field', () => {
    const junk = [null, 0, -1, 1e308, '', 'x', [], [null], {}, { a: { b: [] } }, true];
    for (const value of junk) {
      for (const key of [
        'gridPos',
        'targets',
        'fieldConfig',
        'options',
        'transformations',
        'links',
        'type',
        'title',
        'id',
        'repeat',
        'datasource',
        'styles',
        'yaxes',
        'legend',
        'panels',
        'seriesOverrides',
        'timeFrom',
      ]) {
        const { dashboard } = importValue({
          panels: [
            { type: 'graph', [key]: value },
            { type: 'table', [key]: value },
            { type: 'row', [key]: value },
          ],
          templating: { list: [{ name: 'v', type: 'query', [key]: value }] },
        });
        checkDashboard(JSON.parse(JSON.stringify(dashboard)));
      }
      importValue({
        panels: [],
        templating: value,
        annotations: value,
        tags: value,
        time: value,
        links: value,
        __inputs: value,
        refresh: value,
      });
      importValue({
        kind: 'Dashboard',
        spec: {
          elements: { a: value, b: { kind: 'Panel', spec: value } },
          layout: value,
          variables: [value],
          annotations: [value],
        },
      });
      for (const kind of ['RowsLayout', 'TabsLayout', 'AutoGridLayout', 'GridLayout'])
        importValue({
          elements: {},
          layout: { kind, spec: { rows: [value], tabs: [value], items: [value, { spec: value }] } },
        });
    }
  });

  const root = process.env.PHAROS_TESTDATA;
  const files: string[] = [];
  const walk = (dir: string): void => {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) walk(join(dir, entry.name));
      else if (entry.name.endsWith('.json')) files.push(join(dir, entry.name));
    }
  };
  if (root) walk(join(root, 'dashboards'));
  it.runIf(files.length > 0).each(files)('real ones: %s', (file) => {
    const { dashboard, panels, queries, notes } = importText(readFileSync(file, 'utf8'));
    expect(panels).toBeGreaterThan(0);
    expect(queries).toBeGreaterThan(0);
    checkDashboard(JSON.parse(JSON.stringify(dashboard)));
    layOut(dashboard.panels, {}, new Set());
    // Nothing vanishes without a word: a panel without queries is a text, or is named.
    for (const panel of dashboard.panels) {
      if (panel.kind === 'row' || panel.kind === 'text' || panel.queries.length > 0) continue;
      expect(notes.some((n) => n.subject === panel.title)).toBe(true);
    }
  });
});

describe('built-in dashboards', () => {
  it.each(BUILTIN.map((b) => [b.uid, b] as const))('%s', async (_, row) => {
    const dashboard = await row.load();
    expect(checkDashboard(JSON.parse(JSON.stringify(dashboard)))).toEqual(JSON.parse(JSON.stringify(dashboard)));
    expect(dashboard.title).toBe(row.title);
    const known = new Set([...dashboard.variables.map((v) => v.name), '__rate_interval', '__range', '__interval']);
    for (const panel of dashboard.panels) {
      for (const query of panel.queries)
        for (const [, name] of query.expr.matchAll(/\$(\w+)/g)) expect(known).toContain(name);
    }
  });
});

it('a new panel has an id of its own and lies below the others', () => {
  const dashboard = emptyDashboard();
  dashboard.panels.push(freshPanel(dashboard, 'timeseries', ['up']));
  const next = freshPanel(dashboard, 'stat');
  expect(next.id).not.toBe(dashboard.panels[0]!.id);
  expect(next.grid.y).toBe(9);
});
