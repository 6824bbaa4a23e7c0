import { describe, expect, it } from 'vitest';
import { serviceRows, spanRedQueries } from './spanred';

const sample = (service: string, kind: string, value: string) => ({
  metric: { service, span_kind: `SPAN_KIND_${kind}` },
  value: [0, value] as [number, string],
});

describe('services by the metrics of their spans', () => {
  it('are told by what they are asked, the busiest first', () => {
    const rows = serviceRows(
      {
        rate: [
          sample('cart', 'CLIENT', '50'),
          sample('cart', 'SERVER', '2'),
          sample('mail', 'CONSUMER', '8'),
          sample('mail', 'INTERNAL', '80'),
          sample('batch', 'INTERNAL', '0'),
        ],
        failed: [sample('cart', 'SERVER', '0.5'), sample('cart', 'CLIENT', '40')],
        p99: [sample('cart', 'SERVER', '0.25'), sample('batch', 'INTERNAL', 'NaN')],
        trend: [
          {
            metric: sample('cart', 'SERVER', '').metric,
            values: [
              [30, '1'],
              [60, '3'],
            ],
          },
        ],
        failedTrend: [],
      },
      [0, 30_000, 60_000],
    );
    expect(rows.map((row) => [row.service, row.kind, row.rate, row.failed, row.p99])).toEqual([
      ['mail', 'consumer', 8, 0, null],
      ['cart', 'server', 2, 0.25, 0.25],
      ['batch', 'internal', 0, 0, null],
    ]);
    expect(rows[1]!.trend).toEqual([0, 1, 3]);
    expect(rows[1]!.failedTrend).toEqual([0, 0, 0]);
  });
  it('are none where there are no spans', () =>
    expect(serviceRows({ rate: [], failed: [], p99: [], trend: [], failedTrend: [] }, [])).toEqual([]));
  it('are asked for over windows that hold more than one counter', () => {
    expect(spanRedQueries(900, 30).trend).toContain('[60s]');
    expect(spanRedQueries(900, 30).rate).toContain('[900s]');
    expect(spanRedQueries(900, 30).failed).toContain('STATUS_CODE_ERROR');
  });
});
