// Which metrics, labels and values make series. Counted by the registries as series come: no data is scanned.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useRouter, useSearch } from '@tanstack/react-router';
import { ArrowUpRight, Search } from 'lucide-react';
import {
  type AnchorHTMLAttributes,
  lazy,
  memo,
  type ReactElement,
  Suspense,
  useCallback,
  useDeferredValue,
  useEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import { labelNames, labelValues, queryInstant } from '../api/prometheus';
import { type NamedCount, tsdb } from '../api/status';
import { FilteredOut } from '../components/Filtered';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { Button, Input, Panel, Select } from '../components/ui';
import { labelName, quote } from '../lib/labels';
import { formatMoment } from '../lib/time';
import { formatBytes, formatCount } from '../lib/units';
import { useRange } from '../state/clock';
import { currentTenant } from '../state/prefs';

/** Growth is seen over a day. */
const DAY = { from: 'now-24h', to: 'now' };

const Growth = memo(lazy(() => import('../components/Growth')));

export default function Cardinality() {
  const search = useSearch({ from: '/cardinality' });
  const navigate = useNavigate({ from: '/cardinality' });
  const limit = search.limit ?? 20;
  const { zone } = useRange(DAY);
  const status = useQuery({
    queryKey: ['timed', 'tsdb', currentTenant(), limit],
    queryFn: ({ signal }) => tsdb(limit, signal),
    refetchInterval: 15_000,
  });
  const data = status.data?.data;
  const { find, setFind, clear, words } = useFind();
  // Of the lists' own, so that what is typed draws none of them that it does not change.
  const rows = useMemo(
    () => ({
      metrics: data?.seriesCountByMetricName ?? [],
      metricNames: data?.seriesCountByMetricName.map((row) => row.name) ?? [],
      labelNames: data?.labelValueCountByLabelName.map((row) => row.name) ?? [],
      // The metric's name is a label, too; those are the list beside this one.
      pairs: data?.seriesCountByLabelValuePair.filter((row) => !row.name.startsWith('__name__=')) ?? [],
      values: data?.labelValueCountByLabelName ?? [],
      memory: data?.memoryInBytesByLabelName ?? [],
    }),
    [data],
  );
  const found = { find: words, onClear: clear };
  return (
    <div className="page cardinality">
      <PageHead title="Cardinality" time fallback={DAY} />
      <div className="filter-bar">
        <span className="search-box">
          <Search size={14} aria-hidden />
          <Input
            aria-label="Find a name"
            placeholder="Find a metric, a label, a value"
            value={find}
            onChange={(event) => setFind(event.target.value)}
          />
        </span>
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
      </div>
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
                <dd className="tab-num">{formatMoment(data.headStats.minTime, zone)}</dd>
              </div>
              <div>
                <dt>newest</dt>
                <dd className="tab-num">{formatMoment(data.headStats.maxTime, zone)}</dd>
              </div>
            </dl>
            <p className="muted small strip-note">
              Counted per shard as series come, in the registries' current generation; a series that stopped is counted
              until the next one.
            </p>
          </section>
          {search.focus && <Focus metric={search.focus} total={data.headStats.numSeries} />}
          <Suspense fallback={<Skeleton rows={5} height={220} />}>
            <Growth metrics={rows.metricNames} labels={rows.labelNames} />
          </Suspense>
          <div className="cardinality-grid">
            <Counts
              title="Series by metric"
              rows={rows.metrics}
              {...found}
              total={data.headStats.numSeries}
              Action={LookInto}
            />
            <Counts
              title="Series by label and value"
              rows={rows.pairs}
              {...found}
              total={data.headStats.numSeries}
              Action={AskWhat}
            />
            <Counts title="Values by label" rows={rows.values} {...found} />
            <Counts title="Memory by label" rows={rows.memory} {...found} format={formatBytes} />
          </div>
        </>
      )}
    </div>
  );
}

/** How long after a key the address has what was typed. */
const ADDRESS_DELAY_MS = 300;

/** What is looked for: as typed, as the lists have it a moment later, and in the address once nobody types. */
function useFind() {
  const { find: given = '' } = useSearch({ from: '/cardinality' });
  const navigate = useNavigate({ from: '/cardinality' });
  const [find, setFind] = useState(given);
  const ours = useRef(given);
  useEffect(() => {
    // The address was changed from elsewhere: back, or a link.
    if (given !== ours.current) setFind(given);
    ours.current = given;
  }, [given]);
  useEffect(() => {
    if (find === given) return;
    const timer = setTimeout(() => {
      ours.current = find;
      void navigate({ search: (old) => ({ ...old, find: find || undefined }), replace: true });
    }, ADDRESS_DELAY_MS);
    return () => clearTimeout(timer);
  }, [find, given, navigate]);
  const clear = useCallback(() => {
    // The address first, and what is seen follows; unless it has nothing of it yet.
    if (given) void navigate({ search: (old) => ({ ...old, find: undefined }), replace: true });
    else setFind('');
  }, [given, navigate]);
  return { find, setFind, clear, words: useDeferredValue(find) };
}

/** A link in a long list. Unlike `Link` it does not look at the address again each time that changes. */
function RowLink({
  to,
  search,
  ...rest
}: AnchorHTMLAttributes<HTMLAnchorElement> & { to: string; search: object | ((old: object) => object) }) {
  const router = useRouter();
  const target = { to, search } as Parameters<typeof router.navigate>[0];
  return (
    <a
      href={router.buildLocation(target).href}
      onClick={(event) => {
        if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        void router.navigate(target);
      }}
      {...rest}
    />
  );
}

function LookInto({ row }: { row: NamedCount }) {
  return (
    <RowLink to="/cardinality" search={(old) => ({ ...old, focus: row.name })} aria-label={`Look into ${row.name}`}>
      <ArrowUpRight size={13} aria-hidden />
    </RowLink>
  );
}

function AskWhat({ row }: { row: NamedCount }) {
  const at = row.name.indexOf('=');
  const selector = `{${labelName(row.name.slice(0, at))}=${quote(row.name.slice(at + 1))}}`;
  return (
    <RowLink
      to="/explore"
      search={{ q: [`topk(20, count by (__name__) (${selector}))`], view: 'table' }}
      aria-label={`Ask what has ${row.name}`}
    >
      <ArrowUpRight size={13} aria-hidden />
    </RowLink>
  );
}

const Counts = memo(function Counts({
  title,
  rows: all,
  total,
  Action,
  format = formatCount,
  find,
  onClear,
}: {
  title: string;
  rows: NamedCount[];
  total?: number;
  Action?: (props: { row: NamedCount }) => ReactElement;
  format?: (value: number) => string;
  find: string;
  onClear: () => void;
}) {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = all.filter((row) => words.every((word) => row.name.toLowerCase().includes(word)));
  const most = Math.max(1, ...all.map((r) => r.value));
  if (rows.length === 0 && all.length > 0)
    return (
      <Panel title={title}>
        <FilteredOut small what="names" of={all.length} filters={[{ name: 'the words', value: find, onClear }]} />
        <p className="muted small">Only the largest are looked through: more rows, more names.</p>
      </Panel>
    );
  return (
    <Panel title={title} note={words.length > 0 ? `${rows.length} of ${all.length}` : undefined}>
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
            <Count key={row.name} row={row} most={most} total={total} Action={Action} format={format} />
          ))}
        </tbody>
      </table>
    </Panel>
  );
});

const Count = memo(function Count({
  row,
  most,
  total,
  Action,
  format,
}: {
  row: NamedCount;
  most: number;
  total?: number;
  Action?: (props: { row: NamedCount }) => ReactElement;
  format: (value: number) => string;
}) {
  return (
    <tr>
      <td className="bar-name mono" title={row.name.slice(0, 2000)}>
        <span className="bar-fill" style={{ width: `${(row.value / most) * 100}%` }} aria-hidden />
        <bdi>{row.name}</bdi>
      </td>
      <td className="num">{format(row.value)}</td>
      <td className="num muted">{total ? `${((row.value / total) * 100).toFixed(1)} %` : ''}</td>
      <td className="bar-action">{Action && <Action row={row} />}</td>
    </tr>
  );
});

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
