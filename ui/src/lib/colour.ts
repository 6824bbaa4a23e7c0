// Colours of series. A label set keeps its colour from panel to panel and over reloads: its hash chooses, and within a
// panel the next free colour is taken where two would clash. From the ninth series on colours come again with a dash,
// and later with dots.

export const PALETTE_SIZE = 8;

export interface SeriesLook {
  /** 0 to 7, of the theme's palette. */
  colour: number;
  dash: number[] | undefined;
}

const DASHES: (number[] | undefined)[] = [undefined, [8, 4], [2, 3]];

/** FNV-1a, 32 bits. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value ^= text.charCodeAt(i);
    value = Math.imul(value, 0x01000193) >>> 0;
  }
  return value;
}

/** Looks for the series of a panel, in their order. */
export function assignLooks(names: string[]): SeriesLook[] {
  // How often each colour is taken: a clash goes to the least used one that comes next.
  const used = new Array<number>(PALETTE_SIZE).fill(0);
  return names.map((name) => {
    // A series without labels is the first colour, not whatever nothing hashes to.
    const wanted = name.endsWith(':{}') ? 0 : hash(name) % PALETTE_SIZE;
    const least = Math.min(...used);
    let colour = wanted;
    for (let i = 0; i < PALETTE_SIZE; i++) {
      const candidate = (wanted + i) % PALETTE_SIZE;
      if (used[candidate] === least) {
        colour = candidate;
        break;
      }
    }
    const round = used[colour]!;
    used[colour] = round + 1;
    return { colour, dash: DASHES[Math.min(round, DASHES.length - 1)] };
  });
}

/** A token's value in the theme that is shown. Canvases can not read variables by themselves. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const seriesColour = (index: number): string => token(`series-${(index % PALETTE_SIZE) + 1}`);
