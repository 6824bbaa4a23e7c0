import { describe, expect, it } from 'vitest';
import type { LogRow } from '../api/logs';
import { merged } from '../state/tail';
import { fieldOf, lineOf, marked, textOf, typeOf } from './logrow';

const row = (part: Partial<LogRow>): LogRow => ({ time: '', timeUnixNano: '1', ...part });

describe('lines', () => {
  it('lose the colours of terminals and show what can not be seen', () => {
    expect(lineOf(row({ body: '\u001b[31mred\u001b[0m bell\u0007 \u001b]0;title\u0007x' }), false)).toBe('red bell␇ x');
  });
  it('are one line unless they may wrap', () => {
    expect(lineOf(row({ body: 'a\r\nb\n' }), false)).toBe('a ⏎ b');
    expect(lineOf(row({ body: 'a\r\nb' }), true)).toBe('a\nb');
  });
  it('end', () => expect(lineOf(row({ body: 'x'.repeat(1_000_000) }), false)).toHaveLength(1001));
  it('of structured bodies are JSON', () =>
    expect(lineOf(row({ body: { a: [1, true] } }), false)).toBe('{"a":[1,true]}'));
});

it('values keep their digits and their types', () => {
  expect(textOf(9007199254740993n)).toBe('9007199254740993');
  expect([1, 1.5, 7n, true, 'x', ['a'], { b: 1 }, null].map(typeOf)).toEqual([
    'int',
    'float',
    'int',
    'bool',
    'string',
    'list',
    'map',
    'none',
  ]);
});

it('a field is the record’s, else the resource’s, else the scope’s', () => {
  const one = row({
    traceId: 'ab',
    attributes: { host: 'a', 'resource.odd': 1 },
    resource: { host: 'b', zone: 'z' },
    scope: { name: 's', attributes: { lib: 'l' } },
  });
  expect(
    ['host', 'zone', 'lib', 'resource.host', 'resource.odd', 'trace_id', 'scope.name', 'scope.attributes.lib'].map(
      (name) => fieldOf(one, name),
    ),
  ).toEqual(['a', 'z', 'l', 'b', 1, 'ab', 's', 'l']);
});

it('words are marked where they stand', () => {
  expect(marked('a.b refused (x)', ['refused', '(x)'])).toEqual([
    { text: 'a.b ', hit: false },
    { text: 'refused', hit: true },
    { text: ' ', hit: false },
    { text: '(x)', hit: true },
  ]);
});

it('the tail keeps lines in order, once, and not too many', () => {
  const line = (n: number): LogRow => row({ id: `i${n}`, timeUnixNano: String(n) });
  const first = merged([], [line(1), line(9), line(10)]);
  expect(first.map((r) => r.id)).toEqual(['i10', 'i9', 'i1']);
  expect(merged(first, [line(9), line(5), line(11)]).map((r) => r.id)).toEqual(['i11', 'i10', 'i9', 'i5', 'i1']);
  expect(merged(first, [line(9)])).toBe(first);
  const many = merged(
    first,
    Array.from({ length: 6000 }, (_, i) => line(100 + i)),
  );
  expect(many).toHaveLength(5000);
  expect(many[0]!.id).toBe('i6099');
});
