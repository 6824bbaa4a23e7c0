import { describe, expect, it } from 'vitest';
import { parseNs } from './traceform';
import {
  asksNumbers,
  attribute,
  completionAt,
  conditions,
  durationText,
  equals,
  formQuery,
  tagCondition,
  tokens,
  withConditions,
} from './traceql';

const kinds = (text: string) =>
  tokens(text)
    .filter((t) => t.kind !== 'space')
    .map((t) => `${t.kind} ${text.slice(t.from, t.to)}`);

describe('tokens', () => {
  it.each([
    [
      '{ resource.service.name = "a b" && duration>1.5s }',
      [
        'mark {',
        'field resource.service.name',
        'operator =',
        'text "a b"',
        'operator &&',
        'field duration',
        'operator >',
        'number 1.5s',
        'mark }',
      ],
    ],
    [
      '{ .a } >> { status = error }',
      [
        'mark {',
        'field .a',
        'mark }',
        'operator >>',
        'mark {',
        'field status',
        'operator =',
        'keyword error',
        'mark }',
      ],
    ],
    [
      '{ span."a b" != nil } | count() > 2',
      [
        'mark {',
        'field span."a b"',
        'operator !=',
        'keyword nil',
        'mark }',
        'mark |',
        'keyword count',
        'mark (',
        'mark )',
        'operator >',
        'number 2',
      ],
    ],
    ['span:parentID = `x', ['field span:parentID', 'operator =', 'text `x']],
  ])('%s', (text, wanted) => expect(kinds(text)).toEqual(wanted));

  it('cover every text, and end', () => {
    const signs = ['"', '\\', '(', '}', '.', '=', '<', '!', '|', '&', ' ', 'a', '1', '~', '\n', '🏮', '`', 'span'];
    let seed = 11;
    for (let round = 0; round < 500; round++) {
      let text = '';
      for (let i = 0; i < 12; i++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        text += signs[seed % signs.length];
      }
      expect(
        tokens(text)
          .map((t) => text.slice(t.from, t.to))
          .join(''),
      ).toBe(text);
    }
  });
});

it('names and values are written so that they can be read', () => {
  expect(attribute('span', 'http.method')).toBe('span.http.method');
  expect(attribute('', 'a b')).toBe('."a b"');
  expect(attribute('resource', '0"x')).toBe('resource."0\\"x"');
  expect(equals('.a', 'x"\n')).toBe('.a = "x\\"\\n"');
  expect([equals('.a', 5), equals('.a', true), equals('.a', 2n ** 60n), equals('.a', [1])]).toEqual([
    '.a = 5',
    '.a = true',
    '.a = 1152921504606846976',
    null,
  ]);
});

it.each([
  ['a.b=5', '(.a.b = "5" || .a.b = 5)'],
  ['span.x = y z', 'span.x = "y z"'],
  ['resource.a b=true', '(resource."a b" = "true" || resource."a b" = true)'],
  ['.k=a=b', '.k = "a=b"'],
])('the attribute %s', (tag, wanted) => expect(tagCondition(tag)).toBe(wanted));

it('what is no attribute is no condition', () => {
  for (const tag of ['', 'a', '=b', 'span.=x']) expect(tagCondition(tag)).toBeNull();
});

it('durations are exact', () => {
  for (const [text, ns] of [
    ['1.5s', 1.5e9],
    ['1m30s', 9e10],
    ['20us', 20_000],
    ['7ns', 7],
  ] as const)
    expect(parseNs(text)).toBe(ns);
  for (const text of ['', '5', 'ms', '1 s', '-1s', '1d']) expect(parseNs(text)).toBeNull();
  for (const ns of [0, 7, 999, 1000, 1024, 1_048_576, 2 ** 33, 1.5e9, 6e10]) expect(parseNs(durationText(ns))).toBe(ns);
  expect([durationText(2 ** 20), durationText(1e9), durationText(512)]).toEqual(['1.048576ms', '1s', '512ns']);
});

it('a form is a query', () => {
  expect(formQuery({})).toBe('{ }');
  expect(formQuery({ q: '{ .a = 1 }' })).toBe('{ .a = 1 }');
  expect(
    formQuery({
      service: 'a "b"',
      operation: 'GET /',
      kind: 'server',
      status: 'error',
      dmin: '1ms',
      max: '2s',
      roots: true,
    }),
  ).toBe(
    '{ resource.service.name = "a \\"b\\"" && name = "GET /" && kind = server && status = error && ' +
      'span:parentID = nil && duration >= 1ms && traceDuration <= 2s }',
  );
  expect(conditions({ tags: ['a=b', 'wrong'] })).toEqual(['.a = "b"']);
});

it('conditions join a query before its other stages', () => {
  const join = (query: string) => withConditions(query, ['kind = server']);
  expect(join('')).toBe('{ kind = server }');
  expect(join('{ }')).toBe('{ kind = server }');
  expect(join('{ .a = "|" }')).toBe('{ .a = "|" } | { kind = server }');
  expect(join('{ .a || .b } || ({ .c }) | count() > 2')).toBe(
    '{ .a || .b } || ({ .c }) | { kind = server } | count() > 2',
  );
  expect(withConditions('{ .a } | { .b }', [])).toBe('{ .a } | { .b }');
});

it('a query for numbers is told from one for traces', () => {
  for (const query of ['{ } | rate()', '{ .a = 1 } | { .b } | quantile_over_time(duration, .9) by (name)'])
    expect(asksNumbers(query)).toBe(true);
  for (const query of ['', '{ }', '{ name = "| rate()" }', '{ } | count() > 2', '{ .rate } || { .b }'])
    expect(asksNumbers(query)).toBe(false);
});

it.each([
  ['{ ', { kind: 'field', typed: '' }],
  ['{ resource.ser', { kind: 'field', typed: 'resource.ser' }],
  ['{ dur', { kind: 'field', typed: 'dur' }],
  ['{ name = ', { kind: 'value', field: 'name', typed: '' }],
  ['{ span.http.method = "GE', { kind: 'value', field: 'span.http.method', typed: '"GE' }],
  ['{ status = err', { kind: 'value', field: 'status', typed: 'err' }],
  ['{ .a = 1 && ', { kind: 'field', typed: '' }],
  ['{ } | co', { kind: 'stage', typed: 'co' }],
])('completes behind %s', (text, wanted) => expect(completionAt(text, text.length)).toMatchObject(wanted));

it('completes nothing where nothing is known', () => {
  expect(completionAt('{ } ', 4)).toBeNull();
  expect(completionAt('{ 5 = ', 6)).toBeNull();
});
