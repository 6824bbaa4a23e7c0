import { describe, expect, it } from 'vitest';
import { reportOf } from '../../state/panels';
import { withFilters } from './adhoc';
import { askedText } from './asked';
import { compareDashboards, pieces } from './diff';
import { filtersText, parseFilters, readFilters } from './filters';
import { importValue } from './grafana';
import { type LinkContext, type LinkedValue, taggedBy, targetOf } from './links';
import { rowsOfStreams, sortedLines } from './loglines';
import { asKind, checkDashboard, type Dashboard, emptyDashboard, freshPanel, type Link, type Panel } from './model';
import { expandMacros } from './sqlmacros';
import { ALL, builtins, type Chosen, choose, interpolate, type Scope } from './variables';

const chosen = (name: string, values: string[], part: Partial<Chosen['variable']> = {}, options = values): Chosen => ({
  variable: { name, kind: 'custom', query: '', ...part },
  values,
  options,
});

const HOUR = { from: Date.UTC(2026, 10, 29, 12), to: Date.UTC(2026, 10, 29, 13) };

describe('macros of SQL', () => {
  const [from, to] = ["'2026-11-29T12:00:00.000Z'", "'2026-11-29T13:00:00.000Z'"];
  it.each([
    ['WHERE $__timeFilter(time)', `WHERE time BETWEEN ${from} AND ${to}`],
    ['$__timeFilter( coalesce(a, "b)") )', `coalesce(a, "b)") BETWEEN ${from} AND ${to}`],
    ['t > $__timeFrom() AND t < $__timeTo', `t > ${from} AND t < ${to}`],
    ['$__unixEpochFilter(e)', 'e BETWEEN 1795953600 AND 1795957200'],
    ['$__timeGroup(time, $__interval)', "date_bin(INTERVAL '15000 milliseconds', time)"],
    ['$__timeGroup(time)', "date_bin(INTERVAL '15000 milliseconds', time)"],
    ["$__timeGroup(time, '5m')", "date_bin(INTERVAL '5 minutes', time)"],
    ["$__timeGroupAlias(time, '1h')", `date_bin(INTERVAL '1 hours', time) AS "time"`],
    ['$__timeFilter', '$__timeFilter'],
    ['$__timeFilter(time', '$__timeFilter(time'],
    ['$__timeFromage', '$__timeFromage'],
    ['$__from $__to', '$__from $__to'],
  ])('%s', (text, expected) => expect(expandMacros(text, HOUR, 15_000)).toBe(expected));

  it('variables are put in as text or as a list, and quotes do not end a text', () => {
    const scope: Scope = {
      ...builtins(HOUR, 15_000),
      one: chosen('one', ["it's"]),
      many: chosen('many', ['a', "b'c"], { multi: true }),
      all: chosen('all', [ALL], { multi: true, all: true }, ['x', 'y']),
      none: chosen('none', [], { multi: true }),
      limit: chosen('limit', ['10'], { kind: 'constant' }),
    };
    const asked = (text: string) => askedText('sql', text, scope, { range: HOUR, step: 15_000 }, (e) => `${e}!`);
    expect(asked("job = '$one'")).toBe("job = 'it''s'");
    expect(asked('job IN ($many) OR job IN ($all)')).toBe("job IN ('a','b''c') OR job IN ('x','y')");
    expect(asked('job IN ($none) LIMIT $limit')).toBe('job IN (NULL) LIMIT 10');
    expect(asked("time > $__from AND INTERVAL '$__interval'")).toBe(`time > ${HOUR.from} AND INTERVAL '15s'`);
    expect(asked('promql($1)')).toBe('promql($1)');
  });
});

describe('filters', () => {
  it('are written and read', () => {
    const text = 'job="api", "a b"!~"x\\"y.*", empty=""';
    expect(parseFilters(text)).toEqual([
      { key: 'job', op: '=', value: 'api' },
      { key: 'a b', op: '!~', value: 'x"y.*' },
      { key: 'empty', op: '=', value: '' },
    ]);
    expect(filtersText(parseFilters(text))).toBe(text);
    expect(parseFilters('job=api,instance=~a.*')).toEqual([
      { key: 'job', op: '=', value: 'api' },
      { key: 'instance', op: '=~', value: 'a.*' },
    ]);
    expect(readFilters('job="api", label_values(up, job)')).toEqual({
      filters: [{ key: 'job', op: '=', value: 'api' }],
      rest: 'label_values(up, job)',
    });
    expect(parseFilters('')).toEqual([]);
  });
  it('are what the address says, also nothing', () => {
    const variable = chosen('f', [], { kind: 'filters', query: 'job="a"' }).variable;
    expect(choose(variable, [], undefined)).toEqual(['job="a"']);
    expect(choose(variable, [], '')).toEqual(['']);
    expect(choose(variable, [], 'job="b"')).toEqual(['job="b"']);
  });
  it.each([
    ['up', 'up{job="a"}'],
    ['up{}', 'up{job="a"}'],
    ['up{x="y"}', 'up{job="a", x="y"}'],
    ['{__name__=~"a|b"}[5m]', '{job="a", __name__=~"a|b"}[5m]'],
    [
      'sum by (job) (rate(http_total{code=~"5.."}[5m] offset 1h)) / on (job) group_left sum(http_total @ end())',
      'sum by (job) (rate(http_total{job="a", code=~"5.."}[5m] offset 1h)) / on (job) group_left sum(http_total{job="a"} @ end())',
    ],
    ['max_over_time((a - b)[1h:5m])', 'max_over_time((a{job="a"} - b{job="a"})[1h:5m])'],
    ['label_replace(up, "up", "$1", "down", "(.*)")', 'label_replace(up{job="a"}, "up", "$1", "down", "(.*)")'],
    ['{"with.dots", x="}"}', '{job="a", "with.dots", x="}"}'],
    ['up # up{x}\n + down', 'up{job="a"} # up{x}\n + down{job="a"}'],
    ['vector(1) + time()', 'vector(1) + time()'],
  ])('%s', (text, expected) => expect(withFilters(text, [{ key: 'job', op: '=', value: 'a' }])).toBe(expected));
  it('a value is text', () => {
    expect(withFilters('up', [{ key: 'a b', op: '!=', value: '"} or vector(1)' }])).toBe(
      'up{"a b"!="\\"} or vector(1)"}',
    );
    expect(withFilters('up', [])).toBe('up');
  });
});

describe('links', () => {
  const context: LinkContext = {
    scope: { job: chosen('job', ['a b&c']), base: chosen('base', ['https://x.test/p']), ...builtins(HOUR, 15_000) },
    text: { from: 'now-6h', to: 'now' },
    chosen: [
      chosen('job', ['a b&c']),
      chosen('many', ['1', 'x'], { multi: true }),
      chosen('n', ['1']),
      chosen('c', ['z'], { kind: 'constant' }),
    ],
    tenant: undefined,
  };
  const value: LinkedValue = {
    raw: 1.5,
    text: '1.5 s',
    time: 1000,
    name: 'the series',
    labels: { job: 'x/y', 'a.b': 'd' },
    fields: [
      ['host', 'h 1'],
      ['Value', '1.5'],
    ],
  };
  const href = (link: Partial<Link>, at?: LinkedValue, more: Partial<LinkContext> = {}) =>
    targetOf({ title: 't', url: '', ...link }, { ...context, ...more }, at)?.href;
  it.each([
    [{ url: 'https://x.test/?a=$job' }, 'https://x.test/?a=a%20b%26c'],
    [{ url: '$base/q?j=${job}' }, 'https://x.test/p/q?j=a%20b%26c'],
    [{ url: 'https://x.test', keepTime: true }, 'https://x.test?from=now-6h&to=now'],
    [{ url: 'https://x.test/#top', keepTime: true }, 'https://x.test/?from=now-6h&to=now#top'],
    [
      { url: 'https://x.test/?b=1', keepVariables: true },
      'https://x.test/?b=1&var-job=a%20b%26c&var-many=1&var-many=x&var-n=1',
    ],
    [{ url: 'https://x.test/?${__url_time_range}' }, 'https://x.test/?from=now-6h&to=now'],
    [
      { url: 'https://x.test/?t=${__from}&i=${__from:date}' },
      `https://x.test/?t=${HOUR.from}&i=2026-11-29T12:00:00.000Z`,
    ],
    [{ url: '/logs?q=$job' }, '/logs?q=a%20b%26c&from=now-6h&to=now'],
    [{ url: '/logs?from=now-5m' }, '/logs?from=now-5m&to=now'],
    [
      { url: '/dashboards/x', keepVariables: true },
      '/dashboards/x?from=now-6h&to=now&v-job=a%20b%26c&v-many=%5B%221%22%2C%22x%22%5D&v-n=%221%22',
    ],
    [{ url: '?panel=1' }, '?panel=1&from=now-6h&to=now'],
    [{ url: 'javascript:alert(1)' }, undefined],
    [{ url: ' JavaScript:alert(1)' }, undefined],
    [{ url: '//x.test/' }, undefined],
    [{ url: '/\\x.test/' }, undefined],
    [{ url: 'data:text/html,x' }, undefined],
    [{ url: '' }, undefined],
  ])('%o', (link, expected) => expect(href(link)).toBe(expected));
  it('a variable can not bring another scheme', () =>
    expect(
      href({ url: '$evil' }, undefined, { scope: { evil: chosen('evil', ['javascript:alert(1)']) } }),
    ).toBeUndefined());
  it('the tenant goes along within this server only', () => {
    expect(href({ url: '/logs?from=1&to=2' }, undefined, { tenant: 't' })).toBe('/logs?from=1&to=2&tenant=t');
    expect(href({ url: 'https://x.test/' }, undefined, { tenant: 't' })).toBe('https://x.test/');
  });
  it.each([
    ['${__value.raw} ${__value.numeric} ${__value.text} ${__value.time} ${__value}', '1.5 1.5 1.5%20s 1000 1.5'],
    ['${__series.name} ${__field.name}', 'the%20series the%20series'],
    ['${__field.labels.job} ${__field.labels["a.b"]} ${__field.labels.none}', 'x%2Fy d '],
    ['${__data.fields.host} ${__data.fields["Value"]} ${__data.fields[0]} ${__data.fields.no}', 'h%201 1.5 h%201 '],
    ['${__field.labels.job:raw}', 'x/y'],
    ['${__value.else}', '${__value.else}'],
  ])('%s', (text, expected) =>
    expect(href({ url: `https://x.test/${text}` }, value)).toBe(`https://x.test/${expected}`),
  );
  it('by tags: those that have all of them, without itself', () => {
    const rows = [
      { uid: 'a', tags: ['x', 'y'] },
      { uid: 'b', tags: ['x'] },
      { uid: 'me', tags: ['x', 'y'] },
    ];
    expect(taggedBy({ title: '', url: '', tags: ['x', 'y'] }, rows, 'me').map((r) => r.uid)).toEqual(['a']);
    expect(taggedBy({ title: '', url: '', tags: [] }, rows, 'me').map((r) => r.uid)).toEqual(['a', 'b']);
  });
});

describe('what changed between two versions', () => {
  const base = (): Dashboard => {
    const dashboard = emptyDashboard('D');
    dashboard.panels = [
      { ...freshPanel(dashboard, 'timeseries', ['sum(rate(a[5m]))']), id: '1', title: 'Rate' },
      { ...freshPanel(dashboard, 'stat', ['up']), id: '2', title: 'Up', grid: { x: 0, y: 9, w: 6, h: 6 } },
    ];
    dashboard.variables = [
      { name: 'job', kind: 'query', query: 'label_values(job)' },
      { name: 'env', kind: 'custom', query: 'a,b' },
    ];
    return dashboard;
  };
  it('nothing, where a document was only written down and read', () => {
    const one = base();
    one.panels[0]!.description = undefined;
    expect(compareDashboards(one, checkDashboard(JSON.parse(JSON.stringify(base()))))).toEqual([]);
  });
  it('names panels and their fields', () => {
    const next = base();
    next.title = 'E';
    const [rate] = next.panels as [Panel];
    rate.queries = [
      { ref: 'A', expr: 'sum(rate(b[5m]))' },
      { ref: 'B', expr: 'up', legend: 'l' },
    ];
    rate.options = { unit: 's', stack: 'normal' };
    rate.links = [{ title: 'l', url: '/logs' }];
    next.panels = [rate, { ...freshPanel(next, 'logs'), id: '3', title: 'Lines' }];
    next.variables.reverse();
    next.annotations = [{ name: 'Deploys', source: 'logs', query: 'event:deploy' }];
    const changes = compareDashboards(base(), next);
    expect(changes.map((c) => `${c.of} ${c.name} ${c.kind}`)).toEqual([
      'dashboard E changed',
      'panel Rate changed',
      'panel Up removed',
      'panel Lines added',
      'annotation Deploys added',
    ]);
    expect(changes[0]!.fields).toEqual([
      { field: 'title', before: 'D', after: 'E' },
      { field: 'order of variables', before: 'job, env', after: 'env, job' },
    ]);
    expect(changes[1]!.fields).toEqual([
      { field: 'links', before: undefined, after: '[\n  {\n    "title": "l",\n    "url": "/logs"\n  }\n]' },
      { field: 'query A', before: 'sum(rate(a[5m]))', after: 'sum(rate(b[5m]))' },
      { field: 'query B', before: undefined, after: 'up' },
      { field: 'query B, legend', before: undefined, after: 'l' },
      { field: 'unit', before: undefined, after: 's' },
      { field: 'stack', before: undefined, after: 'normal' },
    ]);
  });
  it('a move is a place', () => {
    const next = base();
    next.panels[1] = { ...next.panels[1]!, grid: { x: 6, y: 9, w: 6, h: 6 } };
    expect(compareDashboards(base(), next)).toEqual([
      {
        of: 'panel',
        name: 'Up',
        kind: 'changed',
        fields: [{ field: 'place', before: 'column 0, line 9, 6 × 6', after: 'column 6, line 9, 6 × 6' }],
      },
    ]);
  });
  it('texts word by word', () => {
    const said = (a: string, b: string) =>
      pieces(a, b)
        .map((p) => (p.kind === 'same' ? p.text : p.kind === 'cut' ? `[-${p.text}-]` : `[+${p.text}+]`))
        .join('');
    expect(said('sum(rate(a[5m]))', 'sum(rate(b[5m]))')).toBe('sum(rate([-a-][+b+][5m]))');
    expect(said('', 'x')).toBe('[+x+]');
    expect(said('a b c d', 'a c d e')).toBe('a [-b -]c d[+ e+]');
    expect(said('same', 'same')).toBe('same');
    const long = 'w '.repeat(5000);
    expect(said(`${long}x`, `${long}y`)).toBe(`${long}[-x-][+y+]`);
    expect(pieces('a '.repeat(2000), 'b '.repeat(2000)).length).toBe(3);
  });
});

describe('kinds and their languages', () => {
  it('a panel keeps the queries that another kind understands', () => {
    const panel = freshPanel(emptyDashboard(), 'timeseries', ['up', 'down']);
    panel.queries.push({ ref: 'C', expr: 'rate({a="b"}[1m])', language: 'logql' });
    expect(asKind(panel, 'stat').queries).toEqual(panel.queries);
    expect(asKind(panel, 'logs').queries).toEqual([{ ref: 'C', expr: 'rate({a="b"}[1m])', language: 'logql' }]);
    expect(asKind(panel, 'sql').queries).toEqual([{ ref: 'A', expr: '' }]);
    expect(asKind(asKind(panel, 'text'), 'gauge').queries).toEqual(panel.queries);
  });
  it('a document with links that are none is refused', () => {
    for (const links of ['x', [1], [{ title: 'x' }]])
      expect(() => checkDashboard({ ...emptyDashboard(), links })).toThrow('link');
    const made = emptyDashboard();
    made.panels = [freshPanel(made, 'logs')];
    const withOptions = (options: object) => ({ ...made, panels: [{ ...made.panels[0], options }] });
    expect(checkDashboard(withOptions({ fields: ['a'], limit: 5, overrides: [] })).panels).toHaveLength(1);
    for (const options of [
      { links: {} },
      { overrides: [{ match: { name: 'x' }, look: { links: 5 } }] },
      { overrides: [{}] },
      { fields: 'a' },
      { limit: '5' },
    ])
      expect(() => checkDashboard(withOptions(options))).toThrow('panel 1');
  });
});

describe('lines', () => {
  it('of streams are records, and all are in the order of their time', () => {
    const rows = rowsOfStreams([
      {
        stream: { service_name: 'a', detected_level: 'Warning', trace_id: 't' },
        values: [
          ['1795953600000000002', 'two'],
          ['1795953600000000001', 'one'],
        ],
      },
      { stream: { level: 'crit' }, values: [['1795953600000000003', 'three']] },
    ]);
    expect(rows.map((r) => [r.level, r.traceId])).toEqual([
      ['warn', 't'],
      ['warn', 't'],
      ['fatal', undefined],
    ]);
    const lines = rows.map((row) => ({ row, ref: 'A' }));
    expect(sortedLines(lines, false).map((l) => l.row.body)).toEqual(['three', 'two', 'one']);
    expect(sortedLines(lines, true).map((l) => l.row.body)).toEqual(['one', 'two', 'three']);
  });
});

describe('what is said of answers', () => {
  const asked = (ref: string, part: object = {}) => ({
    ref,
    text: '',
    hash: ref,
    answer: { data: 1, warnings: [] as string[], infos: [] as string[], elapsedMs: 0, bytes: 0 },
    error: null,
    isPending: false,
    isOld: false,
    isStopped: false,
    again: () => {},
    ...part,
  });
  it('parts that are missing are told from warnings', () => {
    const warned = asked('A', {
      answer: { ...asked('A').answer, warnings: ['results truncated due to limit', 'odd'], infos: ['i'] },
    });
    expect(reportOf('P', [warned, asked('B', { answer: undefined, error: new Error('no') })])).toEqual({
      title: 'P',
      partial: ['Query B failed: no', 'results truncated due to limit'],
      warnings: ['odd'],
      infos: ['i'],
      stopped: [],
    });
  });
  it('what was stopped is told, and whether it is shown', () => {
    const report = reportOf('P', [
      asked('A'),
      asked('B', { isStopped: true, answer: undefined }),
      asked('C', { isStopped: true }),
    ]);
    expect(report.partial).toEqual([
      'Query B was stopped, and is not shown',
      'Query C was stopped: what is shown is older',
    ]);
    expect(report.stopped).toEqual(['B', 'C']);
    // Without any answer the panel itself says it.
    expect(reportOf('P', [asked('A', { isStopped: true, answer: undefined })]).partial).toEqual([]);
  });
});

describe('what Grafana has of it', () => {
  const loki = { type: 'loki', uid: 'l' };
  const tempo = { type: 'tempo', uid: 't' };
  const panel = (type: string, targets: object[], more: object = {}) => ({ type, title: type, targets, ...more });
  const read = (panels: object[], more: object = {}) => {
    const { dashboard, notes } = importValue({ title: 'x', panels, ...more });
    checkDashboard(JSON.parse(JSON.stringify(dashboard)));
    return { dashboard, panels: dashboard.panels, notes: notes.map((n) => `${n.severity}: ${n.text}`) };
  };

  it('logs', () => {
    const { panels, notes } = read([
      panel('logs', [{ refId: 'A', expr: '{a="b"} |= "x"', datasource: loki, maxLines: 50, step: '1m' }], {
        options: { wrapLogMessage: true, sortOrder: 'Ascending', displayedFields: ['pod'] },
      }),
      panel('logs', [{ refId: 'A', query: 'error', datasource: { type: 'elasticsearch' } }]),
    ]);
    expect(panels[0]).toMatchObject({
      kind: 'logs',
      queries: [{ ref: 'A', expr: '{a="b"} |= "x"', language: 'logql' }],
      options: { wrap: true, oldestFirst: true, fields: ['pod'], limit: 50 },
    });
    expect(panels[0]!.queries[0]).not.toHaveProperty('step');
    expect(panels[1]).toMatchObject({ kind: 'logs', queries: [] });
    expect(notes).toEqual([
      'dropped: a query to "elasticsearch"; only PromQL, LogQL and searches of traces are understood',
    ]);
  });
  it('numbers of logs and traces on any panel of numbers', () => {
    const { panels, notes } = read([
      panel('timeseries', [
        { refId: 'A', expr: 'up', datasource: { type: 'prometheus' } },
        { refId: 'B', expr: 'sum(rate({a="b"}[$__auto]))', datasource: loki, legendFormat: 'l' },
        { refId: 'C', query: '{ } | rate()', queryType: 'traceql', datasource: tempo },
      ]),
      panel('stat', [{ expr: 'count_over_time({a="b"}[1h])', queryType: 'instant', datasource: loki }]),
    ]);
    expect(panels.map((p) => p.queries)).toEqual([
      [
        { ref: 'A', expr: 'up' },
        { ref: 'B', expr: 'sum(rate({a="b"}[$__auto]))', legend: 'l', language: 'logql' },
        { ref: 'C', expr: '{ } | rate()', language: 'traceql' },
      ],
      [{ ref: 'A', expr: 'count_over_time({a="b"}[1h])', instant: true, language: 'logql' }],
    ]);
    expect(notes).toEqual([]);
  });
  it.each([
    [{ queryType: 'traceql', query: '{ status = error }', limit: 20 }, '{ status = error }', 20],
    [
      { queryType: 'traceql', query: '0af7651916cd43dd8448eb211c80319c' },
      '{ trace:id = "0af7651916cd43dd8448eb211c80319c" }',
    ],
    [{ queryType: 'traceId', query: '$traceId' }, '{ trace:id = "$traceId" }'],
    [
      {
        queryType: 'traceqlSearch',
        filters: [
          {
            id: 'service-name',
            tag: 'service.name',
            operator: '=',
            scope: 'resource',
            value: ['a', 'b'],
            valueType: 'string',
          },
          { id: 'span-name', tag: 'name', operator: '=', scope: 'span', value: ['GET /'], valueType: 'string' },
          { id: 'status', tag: 'status', operator: '=', scope: 'intrinsic', value: 'error', valueType: 'keyword' },
          { id: 'min-duration', tag: 'duration', operator: '>', value: '1s', valueType: 'duration' },
          { id: 'x', tag: 'http.status_code', operator: '>=', scope: 'span', value: '500', valueType: 'int' },
          { id: 'empty', tag: 'a', operator: '=', value: [] },
        ],
      },
      '{ resource.service.name =~ "a|b" && name = "GET /" && status = error && duration > 1s && span.http.status_code >= 500 }',
    ],
    [{ queryType: 'traceqlSearch', filters: [] }, '{ }'],
    [
      { queryType: 'nativeSearch', serviceName: 's', spanName: 'n', search: 'k=v', minDuration: '10ms' },
      '{ resource.service.name = "s" && name = "n" && duration >= 10ms && .k = "v" }',
    ],
  ])('traces: %o', (target, query, limit?: number) => {
    const { panels } = read([panel('traces', [{ refId: 'A', datasource: tempo, ...target }])]);
    expect(panels[0]).toMatchObject({ kind: 'traces', queries: [{ ref: 'A', expr: query }] });
    expect(panels[0]!.options.limit).toBe(limit);
  });
  it('what is asked decides where a kind can not show it, and it is said', () => {
    const { panels, notes } = read([
      panel('table', [{ refId: 'A', queryType: 'traceql', query: '{ }', datasource: tempo }]),
      panel('table', [{ refId: 'A', expr: '{a="b"}', datasource: loki }]),
      panel('traces', [{ refId: 'A', queryType: 'serviceMap', datasource: tempo }]),
      panel('nodeGraph', [{ refId: 'A', expr: '{a="b"}', datasource: loki }]),
      panel('logs', [
        { refId: 'A', expr: '{a="b"}', datasource: loki },
        { refId: 'B', expr: 'rate({a="b"}[1m])', datasource: loki },
      ]),
    ]);
    expect(panels.map((p) => [p.kind, p.queries.length])).toEqual([
      ['traces', 1],
      ['logs', 1],
      ['traces', 0],
      ['logs', 1],
      ['logs', 1],
    ]);
    expect(notes).toEqual([
      'changed: a panel of type "table": traces are listed',
      'changed: a panel of type "table": lines of logs are listed',
      'dropped: a query of type "serviceMap" to "tempo"',
      'changed: a panel of type "nodeGraph": lines of logs are listed',
      'dropped: queries whose answers are of another kind than the rest of the panel',
    ]);
  });
  it('links of dashboards, panels and values', () => {
    const { dashboard, panels, notes } = read(
      [
        panel('stat', [{ expr: 'up' }], {
          links: [
            { title: 'Book', url: 'https://x.test/$job', targetBlank: true, keepTime: true, includeVars: true },
            { title: 'Inner', url: '/d/abc/x' },
          ],
          fieldConfig: {
            defaults: { links: [{ title: 'V', url: 'https://x.test/${__value.raw}' }] },
            overrides: [
              {
                matcher: { id: 'byName', options: 'job' },
                properties: [{ id: 'links', value: [{ title: 'J', url: 'https://x.test/${__data.fields.job}' }] }],
              },
            ],
          },
        }),
        panel('graph', [{ expr: 'up' }], {
          options: { dataLinks: [{ title: 'old', url: 'https://x.test/${__series_name}?t=${__value_time}' }] },
        }),
        panel('table-old', [{ expr: 'up' }], {
          styles: [{ pattern: 'job', type: 'string', link: true, linkUrl: 'https://x.test/$__cell', linkTooltip: 'T' }],
        }),
      ],
      {
        links: [
          { type: 'link', title: 'Docs', url: 'https://x.test/', icon: 'doc', targetBlank: true },
          { type: 'dashboards', title: 'Others', tags: ['k8s'], asDropdown: true, includeVars: true, keepTime: true },
          { type: 'link', title: 'Inside', url: '/d/abc' },
          { type: 'link', title: 'Bad', url: 'javascript:alert(1)' },
        ],
      },
    );
    expect(dashboard.links).toEqual([
      { title: 'Docs', url: 'https://x.test/', newTab: true },
      { title: 'Others', url: '', tags: ['k8s'], asMenu: true, keepVariables: true },
    ]);
    expect(panels[0]!.links).toEqual([
      { title: 'Book', url: 'https://x.test/$job', newTab: true, keepTime: true, keepVariables: true },
    ]);
    expect(panels[0]!.options.links).toEqual([{ title: 'V', url: 'https://x.test/${__value.raw}' }]);
    expect(panels[0]!.options.overrides).toEqual([
      { match: { name: 'job' }, look: { links: [{ title: 'J', url: 'https://x.test/${__data.fields.job}' }] } },
    ]);
    expect(panels[1]!.options.links).toEqual([
      { title: 'old', url: 'https://x.test/${__series.name}?t=${__value.time}' },
    ]);
    expect(panels[2]!.options.overrides).toEqual([
      { match: { name: 'job' }, look: { links: [{ title: 'T', url: 'https://x.test/${__value.raw}' }] } },
    ]);
    expect(notes).toEqual([
      'dropped: links to pages of that Grafana',
      'dropped: the link "Inside" to a page of that Grafana',
      'dropped: the link "Bad" to a page of that Grafana',
    ]);
  });
  it('filters', () => {
    const { dashboard, notes } = read([], {
      templating: {
        list: [
          {
            type: 'adhoc',
            name: 'Filters',
            datasource: { type: 'prometheus' },
            filters: [
              { key: 'job', operator: '=', value: 'a"b' },
              { key: 'pod', operator: '=|', value: 'x', values: ['x.1', 'y'] },
              { key: 'n', operator: '<', value: '5' },
            ],
          },
          { type: 'adhoc', name: 'Loki', datasource: loki, filters: [] },
        ],
      },
    });
    expect(dashboard.variables).toEqual([{ name: 'Filters', kind: 'filters', query: 'job="a\\"b", pod=~"x\\\\.1|y"' }]);
    expect(
      interpolate('up{$Filters}', { Filters: chosen('Filters', [dashboard.variables[0]!.query], { kind: 'text' }) }),
    ).toBe('up{job="a\\"b", pod=~"x\\\\.1|y"}');
    expect(notes).toEqual([
      'dropped: a filter with the operator "<"',
      'dropped: filters of "loki"; they are of PromQL here',
    ]);
  });
});
