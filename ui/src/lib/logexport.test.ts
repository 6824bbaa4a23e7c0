import { describe, expect, it } from 'vitest';
import type { LogRow } from '../api/logs';
import { runsOf } from './ansi';
import { fileOf } from './logexport';
import { markedRuns } from './logrow';
import { byTime, MOST_PINS, pinOf, pinTime, togglePin } from './pins';

const row = (part: Partial<LogRow>): LogRow => ({
  time: '2026-11-28T09:00:00.000000001Z',
  timeUnixNano: '1795856400000000001',
  ...part,
});

const ROWS = [
  row({
    id: '1_2_0',
    level: 'error',
    body: '\u001b[31mfailed\u001b[0m, "twice"\nand again\n',
    attributes: { user: 'a,b' },
    resource: { 'service.name': 'cart' },
  }),
  row({ id: '1_2_1', body: { a: [1, true] } }),
];

describe('files of records', () => {
  it('are lines of text, one a record, without colours', () =>
    expect(fileOf(ROWS, 'text', ['user'])).toBe(
      '2026-11-28T09:00:00.000000001Z error a,b failed, "twice"\\nand again\n' +
        '2026-11-28T09:00:00.000000001Z - - {"a":[1,true]}\n',
    ));
  it('are lines of JSON with all that a record holds, but its place in the search', () => {
    const lines = fileOf(ROWS, 'jsonl', []).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual(ROWS.map(({ id: _, ...rest }) => rest));
  });
  it('are tables whose cells may hold anything', () => {
    expect(fileOf(ROWS.slice(0, 1), 'csv', ['level', 'user'])).toBe(
      'time,level,user,body\r\n2026-11-28T09:00:00.000000001Z,error,"a,b","\u001b[31mfailed\u001b[0m, ""twice""\nand again\n"\r\n',
    );
    expect(fileOf([], 'csv', [])).toBe('time,level,service.name,trace_id,body\r\n');
  });
});

describe('pins', () => {
  it('name a record whatever question found it', () => {
    const [one] = ROWS as [LogRow];
    expect(pinOf({ ...one, id: '9_9_9' })).toBe(pinOf(one));
    expect(pinOf({ ...one, body: 'other' })).not.toBe(pinOf(one));
    expect(pinTime(pinOf(one))).toBe(one.timeUnixNano);
    expect(['', 'x', '12', '12_<b>', '123456789012345678901_a'].map(pinTime)).toEqual([null, null, null, null, null]);
  });
  it('come and go, and end where a link would be too long', () => {
    expect(togglePin(['1_a'], '1_a')).toEqual([]);
    expect(togglePin([], '1_a')).toEqual(['1_a']);
    const many = Array.from({ length: MOST_PINS }, (_, i) => `${i}_a`);
    expect(togglePin(many, '99_a')).toBeNull();
    expect(togglePin(many, '3_a')).toHaveLength(MOST_PINS - 1);
  });
  it('stand newest first', () => {
    const times = ['9', '1795856400000000001', '1795856400000000002'];
    expect(
      times
        .map((timeUnixNano) => row({ timeUnixNano }))
        .sort(byTime)
        .map((one) => one.timeUnixNano),
    ).toEqual([...times].reverse());
  });
});

it('what is looked for is marked over a change of colours', () => {
  const runs = runsOf('a fai\u001b[31mled\u001b[0m thing');
  expect(markedRuns(runs, ['failed']).map(({ text, look, hit }) => [text, look.ink, hit])).toEqual([
    ['a ', undefined, false],
    ['fai', undefined, true],
    ['led', 1, true],
    [' thing', undefined, false],
  ]);
  expect(markedRuns([], ['x'])).toEqual([]);
});
