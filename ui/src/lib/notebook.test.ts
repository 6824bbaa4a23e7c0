import { describe, expect, it } from 'vitest';
import { type CellSpec, MOST_CELLS, notebookFile, parseCells, readNotebook, storedCells } from './notebook';

const CELLS: CellSpec[] = [
  { kind: 'text', text: '# What happened' },
  { kind: 'sql', text: 'SELECT 1' },
  { kind: 'sql', text: 'SELECT 2', view: 'chart', chart: { x: 'a', y: ['b'], by: [], draw: 'bar' }, folded: true },
  { kind: 'promql', text: 'up', view: 'table', instant: true },
];

describe('notebooks', () => {
  it('are links as before where they are plain SQL, and come back as they were', () => {
    const stored = storedCells([...CELLS, { kind: 'sql', text: ' \n' }]);
    expect(stored).toHaveLength(4);
    expect(stored[1]).toBe('SELECT 1');
    expect(parseCells(JSON.parse(JSON.stringify(stored)))).toEqual(CELLS);
    expect(parseCells('SELECT 1')).toEqual([{ kind: 'sql', text: 'SELECT 1' }]);
  });

  it('take from a link only what cells have', () => {
    const odd = [
      { kind: 'shell', text: 'rm' },
      { kind: 'sql' },
      { kind: 'sql', text: 'x'.repeat(20_001) },
      null,
      { kind: 'promql', text: 'up', chart: { x: 'a' }, view: 'picture', instant: 'yes', more: 1 },
      { kind: 'sql', text: 'a', instant: true, chart: { x: 7, y: 'b', draw: 'pie' } },
      { kind: 'text', text: 't', view: 'chart' },
    ];
    expect(parseCells(odd)).toEqual([
      { kind: 'promql', text: 'up' },
      { kind: 'sql', text: 'a' },
      { kind: 'text', text: 't' },
    ]);
    expect(parseCells(new Array(99).fill('a'))).toHaveLength(MOST_CELLS);
  });

  it('are files and come back', () => {
    const stored = storedCells(CELLS);
    expect(readNotebook(notebookFile('an incident', stored))).toEqual({ name: 'an incident', cells: stored });
    expect(readNotebook(notebookFile('', stored)).name).toBeUndefined();
  });

  it.each([
    ['SELECT 1', 'it is not JSON'],
    ['null', 'does not say so'],
    ['{"cells":[]}', 'does not say so'],
    ['{"pharos":"notebook","version":2,"cells":["a"]}', 'is of version 2'],
    ['{"pharos":"notebook","version":1}', 'has no cells'],
    ['{"pharos":"notebook","version":1,"cells":["a",{"kind":"x","text":"b"}]}', 'Cell 2 is none of'],
    [JSON.stringify({ pharos: 'notebook', version: 1, cells: new Array(31).fill('a') }), '30 is the most'],
  ])('are refused with a reason: %s', (text, reason) => {
    expect(() => readNotebook(text)).toThrow(reason);
  });
});
