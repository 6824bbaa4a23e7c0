import { describe, expect, it } from 'vitest';
import type { LogRow } from '../../api/logs';
import {
  countText,
  freeName,
  grouped,
  isOn,
  MAX_MARKS,
  type Mark,
  marksOfRecords,
  marksOfSeries,
  marksOfStreams,
  sayings,
  switched,
} from './annotations';
import { importValue } from './grafana';
import { type Annotation, checkDashboard, emptyDashboard } from './model';
import { ALL, type Chosen, interpolate } from './variables';

const annotation = (part: Partial<Annotation> = {}): Annotation => ({
  name: 'A',
  source: 'promql',
  query: 'x',
  ...part,
});
const STEP = 10_000;
const SPAN = { from: 100_000, to: 200_000 };
/** Samples from 100 s on, a step apart; `-` is none. */
const series = (values: string, metric: Record<string, string> = {}) => ({
  metric,
  values: values
    .split(' ')
    .map((v, i): [number, string] => [100 + i * 10, v])
    .filter(([, v]) => v !== '-'),
});
const shape = ({ from, to, openStart, openEnd }: Mark): string =>
  `${openStart ? '<' : ''}${from / 1000}${to > from ? `-${to / 1000}` : ''}${openEnd ? '>' : ''}`;

describe('marks of series', () => {
  const of = (values: string, part?: Partial<Annotation>) =>
    marksOfSeries([series(values)], annotation(part), SPAN, STEP).marks.map(shape);
  it.each([
    ['- - - -', []],
    ['0 0 0 NaN 0', []],
    ['0 1 0 2 0', ['110', '130']],
    ['0 1 1 1 0', ['110-130']],
    ['0 1 - 1 0', ['110', '130']],
    ['0 -1 +Inf 0', ['110-120']],
    ['1 1 0 0 0 0 0 0 0 0 1', ['<100-110', '200>']],
    ['1 1 1 1 1 1 1 1 1 1 1', ['<100-200>']],
  ])('%s', (values, wanted) => expect(of(values)).toEqual(wanted));
  it('values may be the moments, each once', () => {
    expect(of('150000 150000 120000.7 99999 200001', { valueAsTime: true })).toEqual(['120', '150']);
  });
  it('tells labels, those that are chosen, and a text of them', () => {
    const metric = { __name__: 'up', job: '<b>a</b>', pod: 'p\u0007' };
    const mark = (part: Partial<Annotation>) =>
      marksOfSeries([series('1', metric)], annotation(part), SPAN, STEP).marks[0]!;
    expect(mark({}).labels).toEqual([
      ['job', '<b>a</b>'],
      ['pod', 'p\u2407'],
    ]);
    expect(mark({ labels: ['pod', 'none'] }).labels).toEqual([['pod', 'p\u2407']]);
    expect(mark({ text: '{{__name__}} of {{ job }}\n{{nothing}}.' }).text).toBe('up of <b>a</b>\n.');
  });
  it('draws the newest, and says of how many', () => {
    const many = Array.from({ length: MAX_MARKS + 7 }, (_, i) => ({
      metric: { i: String(i) },
      values: [[i, '1'] as [number, string]],
    }));
    const marks = marksOfSeries(many, annotation(), SPAN, STEP);
    expect([marks.marks.length, marks.marks[0]?.from, countText(marks)]).toEqual([
      MAX_MARKS,
      7000,
      `newest ${MAX_MARKS} of ${MAX_MARKS + 7}`,
    ]);
  });
});

describe('marks of records', () => {
  const row = (ms: number, part: Partial<LogRow> = {}): LogRow => ({
    time: '',
    timeUnixNano: `${ms}000123`,
    body: `at ${ms}`,
    ...part,
  });
  it('each is one, in the order of time, with its fields', () => {
    const found = marksOfRecords(
      [row(3000), row(1000, { level: 'error', attributes: { n: 5 }, resource: { 'service.name': 's' } })],
      false,
      annotation({ source: 'logs' }),
    );
    expect(found.marks.map((m) => [m.from, m.text])).toEqual([
      [1000, 'at 1000'],
      [3000, 'at 3000'],
    ]);
    expect(found.marks[0]!.labels).toEqual([
      ['level', 'error'],
      ['service.name', 's'],
      ['n', '5'],
    ]);
    expect(countText(found)).toBe('2');
  });
  it('says when there are more than were asked for', () =>
    expect(countText(marksOfRecords([row(1)], true, annotation()))).toBe('newest 1'));
  it('texts and labels are of any field', () => {
    const part = { text: '{{body}} by {{resource.who}}', labels: ['scope.name'] };
    const { marks } = marksOfRecords(
      [row(1, { body: 'v2', resource: { who: 'ann' }, scope: { name: 'ci' } })],
      false,
      annotation(part),
    );
    expect([marks[0]!.text, marks[0]!.labels]).toEqual(['v2 by ann', [['scope.name', 'ci']]]);
  });
  it('lines of LogQL, too', () => {
    const { marks, total } = marksOfStreams(
      [
        {
          stream: { app: 'a' },
          values: [
            ['2000000001', 'line'],
            ['1000000000', 'x'.repeat(999)],
          ],
        },
      ],
      annotation(),
    );
    expect([total, marks.map((m) => [m.from, m.text.length, m.labels])]).toEqual([
      2,
      [
        [1000, 301, [['app', 'a']]],
        [2000, 4, [['app', 'a']]],
      ],
    ]);
  });
});

describe('what is drawn', () => {
  const mark = (from: number, to = from): Mark => ({ from, to, text: '', labels: [] });
  it.each([
    ['apart', [mark(10), mark(30)], ['10', '30']],
    ['near', [mark(10), mark(14), mark(15)], ['10*2', '15']],
    ['a region with what lies in it', [mark(10, 40), mark(20), mark(39, 60)], ['10-60*3']],
    ['a narrow region', [mark(10, 13)], ['10']],
    [
      'cut at the ends, and left out beyond',
      [mark(-50, -10), mark(-5, 20), mark(90, 400), mark(101)],
      ['0-20', '90-100'],
    ],
  ])('%s', (_, marks, wanted) =>
    expect(
      grouped(marks, { from: 0, to: 100 }, 5).map(
        (g) => `${g.from}${g.to > g.from ? `-${g.to}` : ''}${g.marks.length > 1 ? `*${g.marks.length}` : ''}`,
      ),
    ).toEqual(wanted),
  );
  it('what is said twice is told once', () => {
    const said = [
      { ...mark(1), text: 'a' },
      { ...mark(2), text: 'b' },
      { ...mark(3), text: 'a' },
      { ...mark(4), labels: [['x', 'y']] as [string, string][] },
    ];
    expect(sayings(said).map((s) => [s.mark.from, s.count])).toEqual([
      [1, 2],
      [2, 1],
      [4, 1],
    ]);
  });
  it('the address says what is other than the document', () => {
    const [on, off] = [annotation({ name: 'on' }), annotation({ name: 'off', off: true })];
    expect([isOn(on, undefined), isOn(off, undefined)]).toEqual([true, false]);
    const both = switched(off, switched(on, undefined));
    expect(both).toEqual(['-on', '+off']);
    expect([isOn(on, both), isOn(off, both)]).toEqual([false, true]);
    expect(switched(off, switched(on, both))).toBeUndefined();
  });
});

describe('annotations of a document', () => {
  it('older ones have none', () => {
    const { annotations: _, ...older } = emptyDashboard();
    expect(checkDashboard(older).annotations).toEqual([]);
  });
  it.each([
    [{ query: 'x', source: 'promql' }, 'no name'],
    [{ name: 'A', query: 'x', source: 'sql' }, 'unknown source'],
    [{ name: 'A', query: 'x', source: 'logs', labels: 'a' }, 'no list'],
    [{ name: 'A', query: 'x', source: 'logs', text: 5 }, 'no text'],
    [null, 'no name'],
  ])('%j', (value, wanted) =>
    expect(() => checkDashboard({ ...emptyDashboard(), annotations: [value] })).toThrow(wanted),
  );
  it('names are told apart', () => {
    expect(freeName('A', [annotation(), annotation({ name: 'A 2' })])).toBe('A 3');
  });
  it('searches take variables in their own way', () => {
    const of = (values: string[], part: object = {}): Chosen => ({
      variable: { name: 'v', kind: 'query', query: '', multi: true, ...part },
      values,
      options: ['a', 'b c'],
    });
    const put = (v: Chosen) => interpolate('f:$v', { v }, 'search');
    expect(put(of(['a']))).toBe('f:a');
    expect(put(of(['a.b', 'x"y']))).toBe('f:(a.b OR "x\\"y")');
    expect(put(of([ALL], { allValue: '.*' }))).toBe('f:(a OR "b c")');
    expect(put(of([]))).toBe('f:*');
    expect(interpolate('$v', { v: of(['level:error x'], { kind: 'text' }) }, 'search')).toBe('level:error x');
  });
});

describe('import of annotations', () => {
  const grafana = {
    builtIn: 1,
    datasource: { type: 'datasource', uid: 'grafana' },
    enable: true,
    name: 'Annotations & Alerts',
    type: 'dashboard',
  };
  const classic = (...list: object[]) => importValue({ panels: [], annotations: { list: [grafana, ...list] } });
  const take = (...list: object[]) => classic(...list).dashboard.annotations;
  const said = (...list: object[]) => classic(...list).notes.map((n) => `${n.subject}: ${n.text}`);

  it("Grafana's own are left out without a word", () => {
    const { dashboard, notes } = classic({ datasource: '-- Grafana --', name: 'Notes', type: 'tags', tags: ['x'] });
    expect([dashboard.annotations, notes]).toEqual([[], []]);
  });
  it('PromQL, as old and new versions write it', () => {
    expect(
      take(
        {
          name: 'Restarts',
          datasource: '$ds',
          expr: 'changes(x[5m])',
          step: '60s',
          titleFormat: 'Restart',
          textFormat: '{{pod}}',
          tagKeys: 'pod, job',
          iconColor: 'rgba(255, 96, 96, 1)',
          enable: true,
        },
        { name: 'Starts', datasource: { type: 'prometheus' }, target: { expr: 'y' }, useValueForTime: 'on' },
        { name: 'Starts', datasource: null, expr: 'z', enable: false, hide: true },
      ),
    ).toEqual([
      {
        name: 'Restarts',
        source: 'promql',
        query: 'changes(x[5m])',
        colour: 'rgba(255, 96, 96, 1)',
        text: 'Restart\n{{pod}}',
        labels: ['pod', 'job'],
        step: '60s',
      },
      { name: 'Starts', source: 'promql', query: 'y', valueAsTime: true },
      { name: 'Starts 2', source: 'promql', query: 'z', off: true, hidden: true },
    ]);
  });
  it('LogQL, by its source or by its filters', () => {
    const sources = take(
      { name: 'a', datasource: { type: 'loki' }, expr: '{app="x"}' },
      { name: 'b', datasource: 'Loki', expr: '{app="x"}' },
      { name: 'c', expr: '{app="x"} |= "deployed"' },
      { name: 'd', expr: 'up{app="x"}' },
    ).map((a) => a.source);
    expect(sources).toEqual(['logql', 'logql', 'logql', 'promql']);
  });
  it('says what can not come along', () => {
    expect(
      said(
        { name: 'Deploys', datasource: { type: 'elasticsearch' }, query: 'x' },
        { name: 'Lines', datasource: { type: 'victoriametrics-logs-datasource' }, expr: 'x' },
        { name: 'Empty', datasource: { type: 'prometheus' } },
        { name: 'Some', datasource: { type: 'prometheus' }, expr: 'x', filter: { exclude: false, ids: [1] } },
      ),
    ).toEqual([
      'annotation Deploys: it asks "elasticsearch"; only PromQL and LogQL are understood',
      'annotation Lines: it asks "victoriametrics-logs-datasource"; only PromQL and LogQL are understood',
      'annotation Empty: it has no query',
      'annotation Some: it was on some panels only, now it is on all',
    ]);
  });
  it('of resources of version 2', () => {
    const { dashboard, notes } = importValue({
      elements: {},
      layout: {},
      annotations: [
        { kind: 'AnnotationQuery', spec: { builtIn: true, name: 'Annotations & Alerts', query: { group: 'grafana' } } },
        {
          kind: 'AnnotationQuery',
          spec: {
            name: 'New',
            enable: true,
            hide: false,
            iconColor: 'red',
            query: { kind: 'DataQuery', group: 'prometheus', version: 'v0', spec: { expr: 'x' } },
            legacyOptions: { textFormat: '{{job}}', step: '30s' },
          },
        },
        { kind: 'AnnotationQuery', spec: { name: 'Logs', query: { kind: 'loki', spec: { expr: '{a="b"}' } } } },
      ],
    });
    expect(dashboard.annotations).toEqual([
      { name: 'New', source: 'promql', query: 'x', colour: 'red', text: '{{job}}', step: '30s' },
      { name: 'Logs', source: 'logql', query: '{a="b"}' },
    ]);
    expect(notes).toEqual([]);
    expect(checkDashboard(JSON.parse(JSON.stringify(dashboard)))).toEqual(dashboard);
  });
  it('survives nonsense in every field', () => {
    for (const value of [null, 0, -1, '', 'x', [], [null], {}, { ids: [[]] }, true])
      for (const key of [
        'datasource',
        'expr',
        'target',
        'name',
        'filter',
        'step',
        'tagKeys',
        'iconColor',
        'enable',
        'hide',
      ]) {
        const { dashboard } = classic({ name: 'a', expr: 'x', [key]: value }, { name: 'b', target: { expr: value } });
        checkDashboard(JSON.parse(JSON.stringify(dashboard)));
        importValue({ elements: {}, layout: {}, annotations: [{ spec: { [key]: value, query: value } }] });
      }
  });
});
