// Colours and weights that programs give their lines for terminals: sequences of `ESC [ ... m`, told as runs of text with a
// look each. All other sequences move cursors of terminals and are left out.

/** One of sixteen, or red, green and blue. */
export type Ink = number | readonly [number, number, number];

export interface Look {
  ink?: Ink;
  ground?: Ink;
  bold?: true;
  faint?: true;
  italic?: true;
  underline?: true;
  struck?: true;
  /** Ink and ground change places. */
  inverse?: true;
}

export interface Run {
  text: string;
  look: Look;
}

const PLAIN: Look = {};

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const SEQUENCE = /\u001b(?:\[([0-?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.|$)/gs;

/** Whether a text has any sequence. */
export const hasAnsi = (text: string): boolean => text.includes('\u001b');

/** Of the palette of 256: sixteen by name, a cube of six steps, greys. */
function ofPalette(at: number): Ink | undefined {
  if (!(at >= 0 && at <= 255)) return undefined;
  if (at < 16) return at;
  if (at >= 232) {
    const grey = 8 + (at - 232) * 10;
    return [grey, grey, grey];
  }
  const step = (n: number): number => (n === 0 ? 0 : 55 + n * 40);
  return [step(Math.floor((at - 16) / 36)), step(Math.floor((at - 16) / 6) % 6), step((at - 16) % 6)];
}

const FLAGS = { 1: 'bold', 2: 'faint', 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'struck' } as const;
const ENDS: Record<number, (keyof Look)[]> = {
  22: ['bold', 'faint'],
  23: ['italic'],
  24: ['underline'],
  27: ['inverse'],
  29: ['struck'],
  39: ['ink'],
  49: ['ground'],
};

/** A look after the numbers of one sequence. */
function changed(before: Look, parameters: string): Look {
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).map((part) => (part === '' ? 0 : Number(part)));
  let look: Look = { ...before };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]!;
    const flag = FLAGS[code as keyof typeof FLAGS];
    if (code === 0) look = {};
    else if (flag) look[flag] = true;
    else if (ENDS[code]) for (const key of ENDS[code]) delete look[key];
    else if (code === 38 || code === 48) {
      let ink: Ink | undefined;
      if (codes[i + 1] === 5) {
        ink = ofPalette(codes[i + 2] ?? -1);
        i += 2;
      } else if (codes[i + 1] === 2) {
        const [r, g, b] = codes.slice(i + 2, i + 5).map((part) => Math.min(255, Math.max(0, part)));
        if (b !== undefined && !Number.isNaN(r! + g! + b)) ink = [r!, g!, b];
        i += 4;
      }
      if (ink !== undefined) look[code === 38 ? 'ink' : 'ground'] = ink;
    } else if (code >= 30 && code <= 37) look.ink = code - 30;
    else if (code >= 90 && code <= 97) look.ink = code - 82;
    else if (code >= 40 && code <= 47) look.ground = code - 40;
    else if (code >= 100 && code <= 107) look.ground = code - 92;
  }
  return look;
}

/** A text without sequences, in runs of one look each. */
export function runsOf(text: string): Run[] {
  if (!hasAnsi(text)) return text === '' ? [] : [{ text, look: PLAIN }];
  const runs: Run[] = [];
  let look = PLAIN;
  let from = 0;
  for (const found of text.matchAll(SEQUENCE)) {
    if (found.index > from) runs.push({ text: text.slice(from, found.index), look });
    from = found.index + found[0].length;
    if (found[2] === 'm' && /^[0-9;:]*$/.test(found[1]!)) look = changed(look, found[1]!);
  }
  if (from < text.length) runs.push({ text: text.slice(from), look });
  return runs;
}

/** Only the text. */
export const withoutAnsi = (text: string): string => (hasAnsi(text) ? text.replace(SEQUENCE, '') : text);
