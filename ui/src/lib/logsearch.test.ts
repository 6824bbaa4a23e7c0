import { describe, expect, it } from 'vitest';
import { completionAt, filterText, patternFilter, tokens, wantedWords, withFilter } from './logsearch';

const kinds = (text: string) =>
  tokens(text)
    .filter((t) => t.kind !== 'space')
    .map((t) => `${t.kind} ${text.slice(t.from, t.to)}`);

describe('tokens', () => {
  it.each([
    ['level>=warn -debug', ['field level', 'operator >=', 'word warn', 'keyword -', 'word debug']],
    ['a.b:"c d" OR x', ['field a.b', 'operator :', 'text "c d"', 'keyword OR', 'word x']],
    [
      'path:/api/* path:/^.api/ /re.*x/i',
      ['field path', 'operator :', 'word /api/*', 'field path', 'operator :', 'regex /^.api/', 'regex /re.*x/i'],
    ],
    [
      'status:[500 TO 599]',
      ['field status', 'operator :', 'mark [', 'number 500', 'keyword TO', 'number 599', 'mark ]'],
    ],
    ['a\\:b conn-refused', ['word a\\:b', 'word conn-refused']],
    ['x!=5 y:>=1.5', ['field x', 'operator !=', 'number 5', 'field y', 'operator :>=', 'number 1.5']],
    ['"not closed', ['text "not closed']],
  ])('%s', (text, wanted) => expect(kinds(text)).toEqual(wanted));

  it('cover every text, and end', () => {
    const signs = ['"', '\\', '(', ']', ':', '=', '<', '!', '-', '/', ' ', 'a', '1', '~', '\n', '🏮', 'OR'];
    let seed = 7;
    for (let round = 0; round < 500; round++) {
      let text = '';
      for (let i = 0; i < 12; i++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        text += signs[seed % signs.length];
      }
      const list = tokens(text);
      expect(list.map((t) => text.slice(t.from, t.to)).join('')).toBe(text);
    }
  });
});

describe('filters', () => {
  it.each([
    ['service.name', 'checkout', 'service.name:checkout'],
    ['user agent', 'Mozilla/5.0 (X11)', 'user\\ agent:"Mozilla/5.0 (X11)"'],
    ['a:b', 'OR', 'a\\:b:"OR"'],
    ['x', 'say "hi"\n\\', 'x:"say \\"hi\\"\\n\\\\"'],
    ['x', '', 'x:""'],
    ['x', '-1', 'x:"-1"'],
    ['x', null, '-x:*'],
  ])('%s = %s', (field, value, wanted) => expect(filterText(field, value)).toBe(wanted));

  it.each([
    ['', 'a:1', false, 'a:1'],
    ['*', 'a:1', true, '-a:1'],
    ['refused', 'a:1', false, 'refused a:1'],
    ['refused a:1', 'a:1', false, 'refused a:1'],
    ['refused -a:1 x', 'a:1', false, 'refused a:1 x'],
    ['a:1 x', 'a:1', true, '-a:1 x'],
    ['x OR y', 'a:1', false, '(x OR y) a:1'],
    ['(x OR y)', 'a:1', false, '(x OR y) a:1'],
    ['NOT a:1', 'a:1', false, 'NOT a:1 a:1'],
    ['a:(1 OR 2)', 'a:"1 2"', false, 'a:(1 OR 2) a:"1 2"'],
    ['x', '-a:*', true, 'x a:*'],
  ])('%s and %s, negated %s', (search, filter, negate, wanted) =>
    expect(withFilter(search, filter, negate)).toBe(wanted),
  );
});

it('a pattern finds what it stands for', () => {
  const filter = patternFilter('GET /a(b) <_> took <_> ms');
  const regex = new RegExp(filter.slice(1, -1));
  expect(regex.test('GET /a(b) 200 took 12.5 ms')).toBe(true);
  expect(regex.test('GET /ab 200 took 12.5 ms')).toBe(false);
});

it('words to mark are those that are looked for in bodies', () => {
  expect(wantedWords('refused "by payments" -debug level:error conn* NOT never a:b OR other')).toEqual([
    'refused',
    'by payments',
    'conn',
    'other',
  ]);
});

describe('completion', () => {
  it.each([
    ['serv', { kind: 'field', field: '', from: 0, typed: 'serv' }],
    ['', { kind: 'field', field: '', from: 0, typed: '' }],
    ['level:', { kind: 'value', field: 'level', from: 6, typed: '' }],
    ['x level:wa', { kind: 'value', field: 'level', from: 8, typed: 'wa' }],
    ['a\\ b:"c d', { kind: 'value', field: 'a b', from: 5, typed: 'c d' }],
    ['level:warn ', { kind: 'field', field: '', from: 11, typed: '' }],
    ['/regex', { kind: 'field', field: '', from: 0, typed: '/regex' }],
    ['"a phrase', null],
  ])('%s', (text, wanted) => expect(completionAt(text, text.length)).toEqual(wanted));
});
