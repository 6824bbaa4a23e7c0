import { describe, expect, it } from 'vitest';
import { hasAnsi, runsOf, withoutAnsi } from './ansi';

const runs = (text: string) => runsOf(text.replaceAll('ESC', '\u001b')).map(({ text: of, look }) => [of, look]);

describe('runs of terminal text', () => {
  it.each([
    ['plain', [['plain', {}]]],
    ['', []],
    [
      'ESC[31merrorESC[0m: x',
      [
        ['error', { ink: 1 }],
        [': x', {}],
      ],
    ],
    ['ESC[1;92;44mok', [['ok', { bold: true, ink: 10, ground: 4 }]]],
    ['ESC[38;5;196mred', [['red', { ink: [255, 0, 0] }]]],
    ['ESC[38;5;3mx', [['x', { ink: 3 }]]],
    ['ESC[48;5;244mgrey', [['grey', { ground: [128, 128, 128] }]]],
    ['ESC[38;2;1;2;300mrgb', [['rgb', { ink: [1, 2, 255] }]]],
    ['ESC[38:2:9:8:7mrgb', [['rgb', { ink: [9, 8, 7] }]]],
    [
      'aESC[31mbESC[mc',
      [
        ['a', {}],
        ['b', { ink: 1 }],
        ['c', {}],
      ],
    ],
    [
      'ESC[1;2;3;4;7;9mxESC[22;23;24;27;29my',
      [
        ['x', { bold: true, faint: true, italic: true, underline: true, inverse: true, struck: true }],
        ['y', {}],
      ],
    ],
    [
      'ESC[31;43mxESC[39myESC[49mz',
      [
        ['x', { ink: 1, ground: 3 }],
        ['y', { ground: 3 }],
        ['z', {}],
      ],
    ],
    // What moves the cursor, names a window or links elsewhere is no text, and no look.
    [
      'aESC[2JbESC]0;titleESC\\cESC]8;;https://x\u0007d',
      [
        ['a', {}],
        ['b', {}],
        ['c', {}],
        ['d', {}],
      ],
    ],
    // Broken and cut off.
    [
      'aESC[31',
      [
        ['a', {}],
        ['31', {}],
      ],
    ],
    ['aESC', [['a', {}]]],
    ['ESC[38;5;999mx', [['x', {}]]],
    ['ESC[38;2;1mx', [['x', {}]]],
    ['ESC[?25lx', [['x', {}]]],
    ['ESC[999999999999999999mx', [['x', {}]]],
  ])('%s', (text, expected) => expect(runs(text)).toEqual(expected));

  it('leaves only the text', () => {
    expect(withoutAnsi('\u001b[1m\u001b[31mfailed\u001b[0m twice')).toBe('failed twice');
    expect([hasAnsi('plain'), hasAnsi('\u001b[0m')]).toEqual([false, true]);
  });
});
