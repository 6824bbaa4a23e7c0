// How cardinality moves: what the registries hold over time, by the cluster's own metrics, and which metrics and labels
// have grown since a moment before.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo } from 'react';
import { labelValues, queryInstant, queryRange } from '../api/prometheus';
import { frameOf } from '../lib/frame';
import { changeText, countQuery, countsOf, type Grown, grown, LABELS_COMPARED } from '../lib/growth';
import { niceStep, parseDuration } from '../lib/time';
import { formatCount } from '../lib/units';
import { AGO } from '../routes';
import { useRange } from '../state/clock';
import { currentTenant } from '../state/prefs';
import { aligned } from '../state/queries';
import { useSystemMetrics } from '../state/system';
import { Chart } from './Chart';
import { Empty, ErrorBox, Skeleton } from './states';
import { Panel, Segmented } from './ui';

const ACTIVE = 'sum(max by (shard) (pharos_shard_series))';
/** A look back over the step and a scrape or two. */
const created = (step: number): string =>
  `sum(rate(pharos_router_cache_misses_total[${Math.max(60, Math.ceil(step / 1000) * 2)}s]))`;

const POINTS = 240;
const SHOWN = 10;
const VALUES = 10_000;
/** Values are those of so long before each moment. */
const VALUES_MS = 600_000;

/** How long ago, in words. */
const AGO_WORDS: Record<string, string> = { '1h': 'an hour ago', '1d': 'a day ago', '7d': 'a week ago' };

export default function Growth({ metrics, labels }: { metrics: string[]; labels: string[] }) {
  const search = useSearch({ from: '/cardinality' });
  const navigate = useNavigate({ from: '/cardinality' });
  return (
    <>
      <div className="cardinality-grid">
        <Course
          title="Series in the registries"
          note="all tenants, each shard once"
          query={() => ACTIVE}
          none="This cluster does not write its own metrics, or not in this time"
        />
        <Course
          title="Series new to a node"
          note="a second; all of them after a start of a node, afterwards those that are new"
          query={created}
          none="This cluster does not write its own metrics, or not in this time"
        />
      </div>
      <Panel
        title="What has grown"
        note={search.ago ? `series and values now, beside ${AGO_WORDS[search.ago]}` : 'compared when it is asked for'}
        actions={
          <Segmented
            label="Compare with"
            value={search.ago ?? ''}
            choices={[{ id: '', label: 'Off' }, ...AGO.map((id) => ({ id, label: `${id} ago` }))]}
            onChange={(id) =>
              void navigate({
                search: (old) => ({ ...old, ago: AGO.find((one) => one === id) }),
                replace: true,
              })
            }
          />
        }
      >
        {search.ago ? (
          <Compared ago={search.ago} metrics={metrics} labels={labels} />
        ) : (
          <p className="muted">
            Choose a moment to compare with: the metrics with most series and the labels with most values are counted
            then and now.
          </p>
        )}
      </Panel>
    </>
  );
}

function Course({
  title,
  note,
  query,
  none,
}: {
  title: string;
  note: string;
  query: (step: number) => string;
  none: string;
}) {
  const { range, zone, zoom } = useRange({ from: 'now-24h', to: 'now' });
  const { tenant } = useSystemMetrics();
  const step = niceStep(range, POINTS, 15_000);
  const text = query(step);
  const span = aligned(range, step);
  const found = useQuery({
    queryKey: ['timed', 'growth', tenant, text, span, step],
    enabled: tenant !== undefined,
    queryFn: ({ signal }) => queryRange({ query: text, ...span, step, tenant }, signal),
    placeholderData: (old) => old,
  });
  const frame = useMemo(
    () =>
      found.data
        ? frameOf([{ result: found.data.data.result, template: title, query: 0 }], span.from, span.to, step)
        : null,
    [found.data, title, span.from, span.to, step],
  );
  return (
    <Panel title={title} note={note}>
      {found.error ? (
        <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
      ) : !frame ? (
        <Skeleton height={150} rows={3} />
      ) : frame.series.length === 0 ? (
        <div style={{ height: 150 }}>
          <Empty title={none} />
        </div>
      ) : (
        <Chart
          frame={frame}
          range={range}
          zone={zone}
          height={150}
          unit="short"
          min={0}
          sync="growth"
          onZoom={zoom}
          dimmed={found.isPlaceholderData}
          label={`${title}: ${note}`}
        />
      )}
    </Panel>
  );
}

function Compared({ ago, metrics, labels }: { ago: string; metrics: string[]; labels: string[] }) {
  const { range } = useRange({ from: 'now-24h', to: 'now' });
  const now = Math.floor(range.to / 60_000) * 60_000;
  const then = now - (parseDuration(ago) ?? 0);
  const tenant = currentTenant();
  const byMetric = useQuery({
    queryKey: ['timed', 'grown', tenant, metrics, now, then],
    queryFn: async ({ signal }) => {
      const query = countQuery(metrics);
      const [a, b] = await Promise.all([
        queryInstant({ query, time: now }, signal),
        queryInstant({ query, time: then }, signal),
      ]);
      const before = countsOf(b.data);
      return { rows: grown(countsOf(a.data), before), isKnown: before.size > 0 };
    },
    placeholderData: (old) => old,
  });
  const byLabel = useQuery({
    queryKey: ['timed', 'grown-labels', tenant, labels, now, then],
    queryFn: async ({ signal }) => {
      const count = async (name: string, to: number) =>
        (await labelValues(name, { from: to - VALUES_MS, to, limit: VALUES }, signal)).data.length;
      const names = labels.slice(0, LABELS_COMPARED);
      const counts = await Promise.all(
        names.map(async (name) => [name, ...(await Promise.all([count(name, now), count(name, then)]))] as const),
      );
      const before = new Map(counts.map(([name, , b]) => [name, b]));
      return {
        rows: grown(new Map(counts.map(([name, a]) => [name, a])), before),
        isKnown: [...before.values()].some((n) => n > 0),
      };
    },
    placeholderData: (old) => old,
  });
  return (
    <div className="cardinality-grid">
      <List
        title="Metrics, by series"
        ago={ago}
        answer={byMetric}
        link={(row) => (
          <Link to="/cardinality" search={(old) => ({ ...old, focus: row.name })}>
            <bdi>{row.name}</bdi>
          </Link>
        )}
      />
      <List title="Labels, by values" ago={ago} answer={byLabel} link={(row) => <bdi>{row.name}</bdi>} />
    </div>
  );
}

function List({
  title,
  ago,
  answer,
  link,
}: {
  title: string;
  ago: string;
  answer: {
    data: { rows: Grown[]; isKnown: boolean } | undefined;
    error: Error | null;
    isPlaceholderData: boolean;
    refetch: () => unknown;
  };
  link: (row: Grown) => React.ReactNode;
}) {
  const { data } = answer;
  if (answer.error) return <ErrorBox error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!data) return <Skeleton rows={5} />;
  if (!data.isKnown)
    return (
      <Empty title={`Nothing is known of ${AGO_WORDS[ago]}`}>There was no data yet, or it is past its retention.</Empty>
    );
  if (data.rows.length === 0) return <Empty title={`As ${AGO_WORDS[ago]}`}>None has more or fewer of them.</Empty>;
  const most = Math.max(1, ...data.rows.map((row) => Math.abs(row.now - row.before)));
  return (
    <div className={answer.isPlaceholderData ? 'is-dimmed' : ''} data-testid="grown">
      <h3>{title}</h3>
      <table className="bars">
        <thead className="sr-only">
          <tr>
            <th>name</th>
            <th>now</th>
            <th>change</th>
          </tr>
        </thead>
        <tbody>
          {data.rows.slice(0, SHOWN).map((row) => (
            <tr key={row.name}>
              <td className="bar-name mono" title={row.name.slice(0, 2000)}>
                <span
                  className="bar-fill"
                  style={{ width: `${(Math.abs(row.now - row.before) / most) * 100}%` }}
                  aria-hidden
                />
                {link(row)}
              </td>
              <td className="num">{formatCount(row.now)}</td>
              <td className="num muted">{changeText(row, formatCount)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {data.rows.length > SHOWN && (
        <p className="cap-note">and {data.rows.length - SHOWN} more that changed less, or fell</p>
      )}
    </div>
  );
}
