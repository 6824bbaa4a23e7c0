// The busiest services: how much they are asked, what failed, how long it takes. Nothing where no spans come.

import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { queryInstant, queryRange } from '../api/prometheus';
import { gridTimes } from '../lib/frame';
import { visible } from '../lib/logrow';
import { type ServiceRed, serviceRows, spanRedQueries } from '../lib/spanred';
import { formatCount, formatValue } from '../lib/units';
import { currentTenant } from '../state/prefs';
import { Panel } from './ui';

const WINDOW_MS = 900_000;
const STEP_MS = 30_000;
const SHOWN = 8;
/** Shares of failures from which a number is marked. */
const WARN = 0.01;
const CRITICAL = 0.05;

export default function HomeServices() {
  const tenant = currentTenant();
  const found = useQuery({
    queryKey: ['home-services', tenant],
    refetchInterval: 15_000,
    placeholderData: keepPreviousData,
    queryFn: async ({ signal }) => {
      const to = Math.floor(Date.now() / STEP_MS) * STEP_MS;
      const from = to - WINDOW_MS;
      const queries = spanRedQueries(WINDOW_MS / 1000, STEP_MS / 1000);
      const now = async (query: string) => {
        const { data } = await queryInstant({ query, time: to }, signal);
        return data.resultType === 'vector' ? data.result : [];
      };
      const course = async (query: string) =>
        (await queryRange({ query, from, to, step: STEP_MS }, signal)).data.result;
      // Most tenants have no spans: then one question is enough.
      const rate = await now(queries.rate);
      if (rate.length === 0) return [];
      const [failed, p99, trend, failedTrend] = await Promise.all([
        now(queries.failed),
        now(queries.p99),
        course(queries.trend),
        course(queries.failedTrend),
      ]);
      return serviceRows({ rate, failed, p99, trend, failedTrend }, gridTimes(from, to, STEP_MS));
    },
  });
  const rows = found.data ?? [];
  if (rows.length === 0) return null;
  return (
    <Panel
      title="Services"
      note="requests, failures and the slowest hundredth, last 15 minutes"
      actions={
        <Link to="/services" search={{ from: 'now-15m', to: 'now' }}>
          {rows.length > SHOWN ? `All ${formatCount(rows.length)}` : 'All'}
        </Link>
      }
    >
      <ul className="home-services" data-testid="home-services">
        {rows.slice(0, SHOWN).map((row) => (
          <li key={row.service}>
            <Link
              to="/services"
              search={{ service: row.service, from: 'now-15m', to: 'now' }}
              title={`${visible(row.service)}: spans of kind ${row.kind}`}
            >
              <bdi className="clip">{visible(row.service.slice(0, 100))}</bdi>
              <Course row={row} />
              <span className="num tab-num">{formatValue(row.rate)}/s</span>
              <span
                className={`num tab-num ${row.failed >= CRITICAL ? 'critical' : row.failed >= WARN ? 'warn' : 'muted'}`}
              >
                {row.failed >= WARN && <span aria-hidden>{row.failed >= CRITICAL ? '■ ' : '▲ '}</span>}
                {(row.failed * 100).toFixed(row.failed > 0 && row.failed < 0.1 ? 1 : 0)} %
                <span className="sr-only"> failed</span>
              </span>
              <span className="num tab-num">
                <span className="muted">p99 </span>
                {row.p99 === null ? '–' : formatValue(row.p99, 's')}
              </span>
            </Link>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** Requests as bars, those that failed in their lower part. */
function Course({ row }: { row: ServiceRed }) {
  const most = Math.max(...row.trend, 1e-12);
  return (
    <svg
      className="trend red-trend"
      viewBox={`0 0 ${Math.max(1, row.trend.length)} 1`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {row.trend.map((rate, i) => {
        const failed = Math.min(rate, row.failedTrend[i] ?? 0) / most;
        return rate === 0 ? null : (
          <g key={i}>
            <rect x={i + 0.1} width={0.8} y={1 - rate / most} height={rate / most} />
            {failed > 0 && <rect className="has-errors" x={i + 0.1} width={0.8} y={1 - failed} height={failed} />}
          </g>
        );
      })}
    </svg>
  );
}
