// The binary form of a range answer, as the live socket and `query_range` send it:
//
//   "PHC1" | length of header u32 LE | header JSON, padded with spaces to a multiple of 8 | float64 LE, series by series
//
// The header names the first step, the distance of steps and their number, and the labels of each series. A step
// without a value is the NaN with all bits of the payload set, so that a NaN that was stored stays one.

import type { Labels } from './labels';

export interface Columns {
  start: number;
  step: number;
  steps: number;
  series: { labels: Labels; values: (number | null)[] }[];
}

const MAGIC = 0x31434850; // "PHC1", little endian
const ABSENT_HIGH = 0x7fffffff;

export class ColumnsError extends Error {}

/** Takes the form apart, checking every length before it is used. */
export function decodeColumns(buffer: ArrayBuffer, offset = 0): Columns {
  const view = new DataView(buffer, offset);
  if (view.byteLength < 8 || view.getUint32(0, true) !== MAGIC) throw new ColumnsError('not a columnar answer');
  const headerBytes = view.getUint32(4, true);
  if (8 + headerBytes > view.byteLength) throw new ColumnsError('the header is cut off');
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, offset + 8, headerBytes))) as {
    start: number;
    step: number;
    steps: number;
    series: Labels[];
  };
  const values = header.steps * header.series.length;
  if (8 + headerBytes + values * 8 !== view.byteLength)
    throw new ColumnsError('the values are not as many as the header says');
  let at = 8 + headerBytes;
  const series = header.series.map((labels) => {
    const column = new Array<number | null>(header.steps);
    for (let i = 0; i < header.steps; i++, at += 8) {
      const absent = view.getUint32(at + 4, true) === ABSENT_HIGH && view.getUint32(at, true) === 0xffffffff;
      column[i] = absent ? null : view.getFloat64(at, true);
    }
    return { labels, values: column };
  });
  return { start: header.start, step: header.step, steps: header.steps, series };
}
