// Rate, errors and durations of services from the metrics that the server makes of their spans: cheap to ask, as nothing
// of the spans themselves is read.

import type { MatrixSeries, VectorSample } from '../api/prometheus';
import { parseValue } from './frame';
import { entryKind } from './red';

export const CALLS = 'traces_spanmetrics_calls_total';
const FAILED = 'status_code="STATUS_CODE_ERROR"';

/** Counters are written every 15 seconds: four of them make a rate. */
const LEAST_WINDOW_S = 60;

export interface SpanRedQueries {
  rate: string;
  failed: string;
  p99: string;
  trend: string;
  failedTrend: string;
}

export function spanRedQueries(seconds: number, step: number): SpanRedQueries {
  const by = 'service, span_kind';
  const rate = (what: string, window: number): string =>
    `sum by (${by}) (rate(${CALLS}{service!=""${what}}[${window}s]))`;
  const window = Math.max(LEAST_WINDOW_S, step);
  return {
    rate: rate('', seconds),
    failed: rate(`,${FAILED}`, seconds),
    p99: `histogram_quantile(0.99, sum by (le, ${by}) (rate(traces_spanmetrics_latency_bucket{service!=""}[${seconds}s])))`,
    trend: rate('', window),
    failedTrend: rate(`,${FAILED}`, window),
  };
}

export interface ServiceRed {
  service: string;
  /** What it is asked: server spans, else those of queues, else what it has most of. */
  kind: string;
  rate: number;
  /** Share of them that failed. */
  failed: number;
  p99: number | null;
  trend: number[];
  failedTrend: number[];
}

interface Answers {
  rate: VectorSample[];
  failed: VectorSample[];
  p99: VectorSample[];
  trend: MatrixSeries[];
  failedTrend: MatrixSeries[];
}

const kindOf = (name: string | undefined): string => (name ?? '').replace(/^SPAN_KIND_/, '').toLowerCase();

/** A row a service, the busiest first. */
export function serviceRows(answers: Answers, times: number[]): ServiceRed[] {
  const kinds = new Map<string, { kind: string; spans: number }[]>();
  for (const { metric, value } of answers.rate) {
    const service = metric.service ?? '';
    const list = kinds.get(service) ?? [];
    list.push({ kind: kindOf(metric.span_kind), spans: value ? parseValue(value[1]) : 0 });
    kinds.set(service, list);
  }
  const own = <T extends { metric: Record<string, string> }>(list: T[], service: string, kind: string): T | undefined =>
    list.find(({ metric }) => metric.service === service && kindOf(metric.span_kind) === kind);
  const numberOf = (sample: VectorSample | undefined): number => (sample?.value ? parseValue(sample.value[1]) : 0);
  const at = new Map(times.map((ms, i) => [ms, i]));
  const course = (series: MatrixSeries | undefined): number[] => {
    const out = new Array<number>(times.length).fill(0);
    for (const [seconds, text] of series?.values ?? []) {
      const i = at.get(Math.round(seconds * 1000));
      if (i !== undefined) out[i] = parseValue(text);
    }
    return out;
  };
  return [...kinds]
    .map(([service, list]) => {
      const kind = entryKind(list) ?? '';
      const rate = list.find((one) => one.kind === kind)?.spans ?? 0;
      const p99 = numberOf(own(answers.p99, service, kind));
      return {
        service,
        kind,
        rate,
        failed: rate > 0 ? Math.min(1, numberOf(own(answers.failed, service, kind)) / rate) : 0,
        p99: Number.isFinite(p99) && p99 > 0 ? p99 : null,
        trend: course(own(answers.trend, service, kind)),
        failedTrend: course(own(answers.failedTrend, service, kind)),
      };
    })
    .sort((a, b) => b.rate - a.rate || a.service.localeCompare(b.service));
}
