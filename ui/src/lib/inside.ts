// What an answer of PromQL holds, as tables that can be sorted and taken along: by time, by series, at one moment.

import type { FragmentTrace, InstantData, MatrixSeries, RangeData } from '../api/prometheus';
import type { SqlTable, SqlValue } from '../api/sql';
import { parseValue, reduce, rowsOf } from './frame';
import { seriesName } from './labels';

/** Numbers that JSON has no words for are texts, as in the server's own JSON of SQL. */
const cell = (value: number | null | undefined): SqlValue =>
  value === null || value === undefined ? null : Number.isFinite(value) ? value : String(value);

/** A series as columns have it: native histograms give their count and their sum. */
function columnsOf(series: MatrixSeries): { name: string; points: [number, number][] }[] {
  const name = seriesName(series.metric);
  const floats = (series.values ?? []).map(([at, text]): [number, number] => [at, parseValue(text)]);
  const histograms = series.histograms ?? [];
  return [
    ...(floats.length > 0 ? [{ name, points: floats }] : []),
    ...(histograms.length > 0
      ? (['count', 'sum'] as const).map((part) => ({
          name: `${name} (${part})`,
          points: histograms.map(([at, of]): [number, number] => [at, parseValue(of[part])]),
        }))
      : []),
  ];
}

/** A row a moment, a column a series; of more series than `most` the first. */
export function byTime(result: MatrixSeries[], most = Number.POSITIVE_INFINITY): SqlTable {
  const series = result.slice(0, most).flatMap(columnsOf);
  const rows = new Map<number, SqlValue[]>();
  series.forEach(({ points }, i) => {
    for (const [at, value] of points) {
      const ms = Math.round(at * 1000);
      let row = rows.get(ms);
      if (!row) {
        row = new Array<SqlValue>(series.length + 1).fill(null);
        row[0] = new Date(ms).toISOString();
        rows.set(ms, row);
      }
      row[i + 1] = cell(value);
    }
  });
  return {
    columns: [{ name: 'time', type: 'timestamp' }, ...series.map(({ name }) => ({ name, type: 'double' }))],
    rows: [...rows].sort((a, b) => a[0] - b[0]).map(([, row]) => row),
  };
}

/** A row a series, with what its values come to. */
export function bySeries(result: MatrixSeries[]): SqlTable {
  return {
    columns: [
      { name: 'series', type: 'text' },
      ...['last', 'min', 'max', 'mean'].map((name) => ({ name, type: 'double' })),
      { name: 'points', type: 'bigint' },
    ],
    rows: result.flatMap(columnsOf).map(({ name, points }) => {
      const { last, min, max, mean } = reduce(points.map(([, value]) => value));
      return [name, ...[last, min, max, mean].map(cell), points.length];
    }),
  };
}

/** A row a point, a column a label: as `promql('...')` is in SQL. */
export function byPoint(result: MatrixSeries[]): SqlTable {
  const names = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].filter(
    (name) => name !== '__name__',
  );
  const isNamed = result.some((series) => series.metric.__name__ !== undefined);
  names.sort();
  return {
    columns: [
      { name: 'time', type: 'timestamp' },
      ...(isNamed ? [{ name: 'name', type: 'text' }] : []),
      ...names.map((name) => ({ name, type: 'text' })),
      { name: 'value', type: 'double' },
    ],
    rows: result.flatMap((series) =>
      (series.values ?? []).map(([at, text]): SqlValue[] => [
        new Date(Math.round(at * 1000)).toISOString(),
        ...(isNamed ? [series.metric.__name__ ?? null] : []),
        ...names.map((name) => series.metric[name] ?? null),
        cell(parseValue(text)),
      ]),
    ),
  };
}

/** The same answer, asked in SQL. */
export function promqlInSql(
  query: string,
  when: { from: number; to: number; step: number } | { time: number },
): string {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
  const moment = (ms: number): string => text(new Date(ms).toISOString());
  return 'time' in when
    ? `SELECT * FROM promql(${text(query)}, ${moment(when.time)})`
    : `SELECT * FROM promql(${text(query)}, ${moment(when.from)}, ${moment(when.to)}, ${text(`${when.step}ms`)})`;
}

/** An answer at one moment: a row a series, a column a label. */
export function atMoment(data: InstantData): SqlTable {
  const rows = rowsOf(data);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.labels)))].sort((a, b) =>
    a === '__name__' ? -1 : b === '__name__' ? 1 : a < b ? -1 : 1,
  );
  const isText = rows.some((row) => row.text !== undefined);
  return {
    columns: [
      { name: 'time', type: 'timestamp' },
      ...names.map((name) => ({ name, type: 'text' })),
      { name: 'value', type: isText ? 'text' : 'double' },
    ],
    rows: rows.map((row) => [
      row.time === null || Number.isNaN(row.time) ? null : new Date(row.time).toISOString(),
      ...names.map((name) => row.labels[name] ?? null),
      row.text ?? cell(row.value),
    ]),
  };
}

export const pointsOf = (data: RangeData | InstantData): number =>
  data.resultType === 'matrix'
    ? data.result.reduce((sum, one) => sum + (one.values?.length ?? 0) + (one.histograms?.length ?? 0), 0)
    : data.resultType === 'vector'
      ? data.result.length
      : 1;

/** What each shard did for a query, all of its fragments together. */
export function shardTable(fragments: FragmentTrace[]): SqlTable {
  const shards = new Map<
    number,
    [asked: number, series: number, samples: number, rows: number, bytes: number, s: number]
  >();
  for (const { shards: parts } of fragments)
    for (const { shard, series, samples, rows, bytes, seconds } of parts) {
      const sum = shards.get(shard) ?? [0, 0, 0, 0, 0, 0];
      [1, series, samples, rows, bytes, seconds].forEach((more, i) => {
        sum[i] = sum[i]! + more;
      });
      shards.set(shard, sum);
    }
  return {
    columns: ['shard', 'fragments', 'series', 'samples', 'rows', 'bytes', 'seconds'].map((name) => ({
      name,
      type: name === 'seconds' ? 'double' : 'bigint',
    })),
    rows: [...shards].sort((a, b) => a[0] - b[0]).map(([shard, sums]) => [shard, ...sums]),
  };
}

/** A request as a shell sends it. */
export function curlOf(url: string, params: [string, string][], tenant: string | undefined): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  return [
    `curl -sG ${quoted(url)}`,
    ...(tenant ? [`-H ${quoted(`X-Scope-OrgID: ${tenant}`)}`] : []),
    ...params.map(([name, value]) => `--data-urlencode ${quoted(`${name}=${value}`)}`),
  ].join(' \\\n  ');
}
