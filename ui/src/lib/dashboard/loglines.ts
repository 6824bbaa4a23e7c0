// Lines of logs as a panel lists them, from whichever language found them.

import type { LogRow } from '../../api/logs';
import type { LokiStream } from './annotations';

export interface PanelLine {
  row: LogRow;
  /** Of which query. */
  ref: string;
}

const LEVELS: Record<string, string> = {
  critical: 'fatal',
  crit: 'fatal',
  emerg: 'fatal',
  alert: 'fatal',
  err: 'error',
  warning: 'warn',
  notice: 'info',
  information: 'info',
  dbg: 'debug',
};

/** A level by any of its usual names. */
export function knownLevel(name: string | undefined): string | undefined {
  const lower = name?.toLowerCase();
  return lower === undefined ? undefined : (LEVELS[lower] ?? lower);
}

/** Lines of LogQL as records: the labels of their stream are their fields. */
export function rowsOfStreams(streams: LokiStream[]): LogRow[] {
  return streams.flatMap(({ stream, values }) =>
    values.map(
      ([nanos, line]): LogRow => ({
        time: new Date(Number(BigInt(nanos) / 1_000_000n)).toISOString(),
        timeUnixNano: nanos,
        body: line,
        level: knownLevel(stream.detected_level ?? stream.level ?? stream.severity_text),
        traceId: stream.trace_id,
        spanId: stream.span_id,
        attributes: stream,
      }),
    ),
  );
}

/** All lines by their time. */
export function sortedLines(lines: PanelLine[], oldestFirst: boolean): PanelLine[] {
  const sign = oldestFirst ? 1 : -1;
  return lines
    .map((line) => ({ line, at: BigInt(line.row.timeUnixNano) }))
    .sort((a, b) => (a.at === b.at ? 0 : a.at < b.at ? -sign : sign))
    .map(({ line }) => line);
}
