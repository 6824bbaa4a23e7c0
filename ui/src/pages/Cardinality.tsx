// Which metrics, labels and values make series. Counted by the registries as series come: no data is scanned.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { ArrowUpRight } from 'lucide-react';
import type { ReactNode } from 'react';
import { labelNames, labelValues, queryInstant } from '../api/prometheus';
import { type NamedCount, tsdb } from '../api/status';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { Button, Panel, Select } from '../components/ui';
import { labelName, quote } from '../lib/labels';
import { formatMoment } from '../lib/time';
import { formatBytes, formatCount } from '../lib/units';
import { currentTenant, usePrefs } from '../state/prefs';

export default function Cardinality() {
  const search = useSearch({ from: '/cardinality' });
  const navigate = useNavigate({ from: '/cardinality' });
  const limit = search.limit ?? 20;
  const utc = usePrefs((s) => s.utc);
  const status = useQuery({
    queryKey: ['timed', 'tsdb', currentTenant(), limit],
    queryFn: ({ signal }) => tsdb(limit, signal),
    refetchInterval: 15_000,
  });
  const data = status.data?.data;
  return (
    <div className="page cardinality">
      <PageHead title="Cardinality">
        <label className="check">
          Rows
          <Select
            value={limit}
            onChange={(e) =>
              void navigate({ search: (old) => ({ ...old, limit: Number(e.target.value) }), replace: true })
            }
          >
            {[10, 20, 50, 100, 500].map((n) => (
              <option key={n} value={n}>
                {n}
              </option>
            ))}
          </Select>
        </label>
      </PageHead>
      {status.error && <ErrorBox error={status.error} onRetry={() => void status.refetch()} />}
      {!data ? (
        !status.error && <Skeleton rows={8} />
      ) : data.headStats.numSeries === 0 ? (
        <Empty title="This tenant has no series that are being written">
          <Link to="/">Send the first samples</Link>, and their metrics and labels are counted here at once.
        </Empty>
      ) : (
        <>
          <section className="strip" aria-label="Totals">
            <dl>
              <div>
                <dt>series being written</dt>
                <dd className="tab-num">{formatCount(data.headStats.numSeries)}</dd>
              </div>
              <div>
                <dt>label pairs</dt>
                <dd className="tab-num">{formatCount(data.headStats.numLabelPairs)}</dd>
              </div>
              <div>
                <dt>oldest sample in memory</dt>
                <dd className="tab-num">{formatMoment(data.headStats.minTime, utc)}</dd>
              </div>
              <div>
                <dt>newest</dt>
                <dd className="tab-num">{formatMoment(data.headStats.maxTime, utc)}</dd>
              </div>
            </dl>
            <p className="muted small strip-note">
              Counted per shard as series come, in the registries' current generation; a series that stopped is counted
              until the next one.
            </p>
          </section>
          {search.focus && <Focus metric={search.focus} total={data.headStats.numSeries} />}
          <div className="cardinality-grid">
            <Counts
              title="Series by metric"
              rows={data.seriesCountByMetricName}
              total={data.headStats.numSeries}
              action={(row) => (
                <Link
                  to="/cardinality"
                  search={(old) => ({ ...old, focus: row.name })}
                  aria-label={`Look into ${row.name}`}
                >
                  <ArrowUpRight size={13} aria-hidden />
                </Link>
              )}
            />
            <Counts
              title="Series by label and value"
              // The metric's name is a label, too; those are the list beside this one.
              rows={data.seriesCountByLabelValuePair.filter((row) => !row.name.startsWith('__name__='))}
              total={data.headStats.numSeries}
              action={(row) => {
                const at = row.name.indexOf('=');
                const selector = `{${labelName(row.name.slice(0, at))}=${quote(row.name.slice(at + 1))}}`;
                return (
                  <Link
                    to="/explore"
                    search={{ q: [`topk(20, count by (__name__) (${selector}))`], view: 'table' }}
                    aria-label={`Ask what has ${row.name}`}
                  >
                    <ArrowUpRight size={13} aria-hidden />
                  </Link>
                );
              }}
            />
            <Counts title="Values by label" rows={data.labelValueCountByLabelName} />
            <Counts title="Memory by label" rows={data.memoryInBytesByLabelName} format={formatBytes} />
          </div>
        </>
      )}
    </div>
  );
}

function Counts({
  title,
  rows,
  total,
  action,
  format = formatCount,
}: {
  title: string;
  rows: NamedCount[];
  total?: number;
  action?: (row: NamedCount) => ReactNode;
  format?: (value: number) => string;
}) {
  const most = Math.max(1, ...rows.map((r) => r.value));
  return (
    <Panel title={title}>
      <table className="bars">
        <thead className="sr-only">
          <tr>
            <th>name</th>
            <th>count</th>
            <th>share</th>
            <th>more</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <td className="bar-name mono" title={row.name.slice(0, 2000)}>
                <span className="bar-fill" style={{ width: `${(row.value / most) * 100}%` }} aria-hidden />
                <bdi>{row.name}</bdi>
              </td>
              <td className="num">{format(row.value)}</td>
              <td className="num muted">{total ? `${((row.value / total) * 100).toFixed(1)} %` : ''}</td>
              <td className="bar-action">{action?.(row)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

/** One metric: how many values each of its labels has, and which label would save most if it went. */
function Focus({ metric, total }: { metric: string; total: number }) {
  const navigate = useNavigate({ from: '/cardinality' });
  const selector = `{__name__=${quote(metric)}}`;
  const answer = useQuery({
    queryKey: ['timed', 'focus', currentTenant(), metric],
    queryFn: async ({ signal }) => {
      const names = (await labelNames({ match: [selector] }, signal)).data.filter((n) => n !== '__name__').slice(0, 40);
      const whole = await queryInstant({ query: `count(${selector})` }, signal);
      const series = whole.data.resultType === 'vector' ? Number(whole.data.result[0]?.value?.[1] ?? 0) : 0;
      const rows = await Promise.all(
        names.map(async (name) => {
          const [values, without] = await Promise.all([
            labelValues(name, { match: [selector], limit: 10_000 }, signal),
            queryInstant({ query: `count(count without (${labelName(name)}) (${selector}))` }, signal),
          ]);
          const left = without.data.resultType === 'vector' ? Number(without.data.result[0]?.value?.[1] ?? 0) : 0;
          return { name, values: values.data.length, left };
        }),
      );
      return { series, rows: rows.sort((a, b) => a.left - b.left) };
    },
  });
  return (
    <Panel
      title={
        <>
          Inside <code>{metric}</code>
        </>
      }
      note={
        answer.data
          ? `${formatCount(answer.data.series)} series now, ${((answer.data.series / Math.max(total, 1)) * 100).toFixed(1)} % of all`
          : ''
      }
      actions={
        <>
          <Link to="/browse" search={{ metric }}>
            Look at it
          </Link>
          <Button look="ghost" onClick={() => void navigate({ search: (old) => ({ ...old, focus: undefined }) })}>
            Close
          </Button>
        </>
      }
    >
      {answer.error ? (
        <ErrorBox error={answer.error} onRetry={() => void answer.refetch()} />
      ) : !answer.data ? (
        <Skeleton rows={4} />
      ) : answer.data.series === 0 ? (
        <p className="muted">It has no series at this moment.</p>
      ) : (
        <table className="facts-table">
          <thead>
            <tr>
              <th>label</th>
              <th className="num">values</th>
              <th className="num">series without it</th>
              <th className="num">saved</th>
            </tr>
          </thead>
          <tbody>
            {answer.data.rows.map((row) => (
              <tr key={row.name}>
                <td className="mono">
                  <bdi>{row.name}</bdi>
                </td>
                <td className="num">{formatCount(row.values)}</td>
                <td className="num">{formatCount(row.left)}</td>
                <td className="num">{(100 - (row.left / answer.data.series) * 100).toFixed(0)} %</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
