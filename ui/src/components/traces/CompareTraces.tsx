// A trace beside another: by service and operation, how many spans there are and what they take in both. The other one is
// named by its id, or chosen from traces that begin alike.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { GitCompare, X } from 'lucide-react';
import { useMemo, useState } from 'react';
import { type FoundTrace, getTrace, searchTraces } from '../../api/traces';
import { type OperationPair, operationPairs, selfDifference } from '../../lib/comparetraces';
import { visible } from '../../lib/logrow';
import { formatMoment } from '../../lib/time';
import { around, serviceColours, serviceName, type TraceView, viewOf } from '../../lib/trace';
import { traceIdOf } from '../../lib/traceid';
import { quoted } from '../../lib/traceql';
import { formatCount, formatValue } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { type ColumnDef, DataTable } from '../DataTable';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button, IconButton, Input } from '../ui';
import '../../style/compare.css';

/** Around the trace: where others are looked for. */
const NEAR_MS = 3_600_000;
const MOST_NEAR = 20;

interface Props {
  view: TraceView;
  /** The other trace's id. */
  other: string | undefined;
  zone: string;
  onOther: (id: string | undefined) => void;
  /** Shows the spans that have such words. */
  onFind: (words: string) => void;
}

export function CompareTraces(props: Props) {
  const { view, other, onOther } = props;
  const [written, setWritten] = useState('');
  const id = traceIdOf(written);
  return (
    <section className="compare trace-compare" aria-label="Comparison of two traces" data-testid="compare-traces">
      <header className="compare-head">
        <GitCompare size={15} aria-hidden />
        <h2>Beside another trace</h2>
        <form
          className="join"
          onSubmit={(event) => {
            event.preventDefault();
            if (id) onOther(id.id);
          }}
        >
          <Input
            aria-label="Id of the other trace"
            placeholder="a trace's id, or a traceparent"
            value={written}
            spellCheck={false}
            aria-invalid={written !== '' && !id}
            onChange={(event) => setWritten(event.target.value)}
          />
          <Button type="submit" disabled={!id}>
            Compare
          </Button>
        </form>
        <span className="spring" />
        {other && <IconButton icon={X} label="Another trace" onClick={() => onOther(undefined)} />}
      </header>
      {other ? <Pairs key={other} {...props} other={other} /> : <Near {...props} skip={view.trace.traceId} />}
    </section>
  );
}

/** Traces of an hour on either side that begin with the same operation. */
function Near({ view, zone, onOther, skip }: Props & { skip: string }) {
  const { rootService, rootName } = view.trace;
  const query = `{ span:parentID = nil && name = ${quoted(rootName)}${
    rootService === '' ? '' : ` && resource.service.name = ${quoted(rootService)}`
  } }`;
  const range = around(view.startNs, view.totalNs, NEAR_MS);
  const found = useQuery({
    queryKey: ['traces-near', currentTenant(), query, range.from, range.to],
    queryFn: ({ signal }) => searchTraces({ query, ...range }, { order: 'newest', limit: MOST_NEAR + 1 }, signal),
  });
  const columns = useMemo<ColumnDef<FoundTrace>[]>(
    () => [
      {
        id: 'begins',
        title: 'begins',
        width: '200px',
        cell: (row) => (
          <button type="button" className="number-door tab-num" onClick={() => onOther(row.traceId)}>
            {formatMoment(Number(BigInt(row.startTimeUnixNano) / 1_000_000n), zone, true)}
          </button>
        ),
      },
      { id: 'id', title: 'trace', width: 'minmax(200px, 1fr)', cell: (row) => <code>{row.traceId}</code> },
      {
        id: 'spans',
        title: 'spans',
        width: '90px',
        numeric: true,
        sort: (row) => row.spanCount,
        cell: (row) => formatCount(row.spanCount),
      },
      {
        id: 'errors',
        title: 'errors',
        width: '90px',
        numeric: true,
        sort: (row) => row.errorCount,
        cell: (row) => formatCount(row.errorCount),
      },
      {
        id: 'duration',
        title: 'duration',
        width: '120px',
        numeric: true,
        sort: (row) => Number(row.durationNs),
        cell: (row) => formatValue(Number(row.durationNs), 'ns'),
      },
    ],
    [zone, onOther],
  );
  if (found.error) return <ErrorBox error={found.error} query={query} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Skeleton rows={6} />;
  const rows = found.data.data.traces.filter((row) => row.traceId !== skip).slice(0, MOST_NEAR);
  return rows.length === 0 ? (
    <Empty title="No other trace of this hour begins so">Any trace can be named by its id.</Empty>
  ) : (
    <>
      <p className="muted">
        The newest {formatCount(rows.length)} of an hour on either side that begin with{' '}
        <bdi>{visible(rootName.slice(0, 200)) || 'the same name'}</bdi>:
      </p>
      <DataTable
        rows={rows}
        columns={columns}
        rowKey={(row) => row.traceId}
        most={560}
        label="Traces that begin alike"
      />
    </>
  );
}

function Pairs({ view, other, zone, onFind }: Props & { other: string }) {
  const found = useQuery({
    queryKey: ['trace', currentTenant(), other, 'beside'],
    queryFn: ({ signal }) => getTrace(other, signal),
  });
  const there = useMemo(() => (found.data ? viewOf(found.data.data) : null), [found.data]);
  const pairs = useMemo(() => (there ? operationPairs(view, there) : []), [view, there]);
  const columns = useMemo(() => columnsOf(pairs, onFind), [pairs, onFind]);
  if (found.error) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!there) return <Skeleton rows={10} />;
  const said = (one: TraceView) =>
    `${formatValue(one.totalNs, 'ns')}, ${formatCount(one.size.length)} spans, ${formatCount(one.errors.length)} errors`;
  return (
    <>
      <div className="trace-pair tab-num">
        <b className="compare-chosen">this one: {said(view)}</b>
        <b>the other: {said(there)}</b>
        <span className="muted">begins {formatMoment(Number(there.startNs / 1_000_000n), zone, true)}</span>
        <span className="spring" />
        <Link
          className="btn btn-plain"
          to="/trace/$id"
          params={{ id: there.trace.traceId }}
          search={{ view: 'compare', with: view.trace.traceId }}
        >
          The other way round
        </Link>
        <Link className="btn btn-plain" to="/trace/$id" params={{ id: there.trace.traceId }}>
          Open the other
        </Link>
      </div>
      {there.trace.traceId === view.trace.traceId && <p className="cap-note warn">▲ This is the same trace.</p>}
      <DataTable
        rows={pairs}
        columns={columns}
        rowKey={(row) => `${row.service}\n${row.name}`}
        most={620}
        label="Operations of both traces"
      />
    </>
  );
}

/** A difference with its sign. */
const signed = (value: number, text: string): string => `${value > 0 ? '+' : value < 0 ? '−' : ''}${text}`;

function columnsOf(pairs: OperationPair[], onFind: (words: string) => void): ColumnDef<OperationPair>[] {
  const colours = serviceColours(pairs.map((pair) => pair.service));
  const longest = Math.max(1, ...pairs.map(({ here, there }) => Math.max(here.selfNs, there.selfNs)));
  const both = (here: string, there: string) => (
    <>
      <span className="compare-chosen">{here}</span> <span className="muted">{there}</span>
    </>
  );
  const time = (ns: number): string => formatValue(ns, 'ns');
  return [
    {
      id: 'operation',
      title: 'operation',
      width: 'minmax(260px, 2fr)',
      sort: (row) => `${row.service} ${row.name}`,
      cell: (row) => (
        <button
          type="button"
          className="number-door trace-root-link"
          title="Find its spans in this trace"
          disabled={row.here.spans === 0}
          onClick={() => onFind(row.name)}
        >
          <span className="wf-key" style={{ background: `var(--series-${(colours.get(row.service) ?? 0) + 1})` }} />
          <bdi className="clip muted">{visible(serviceName(row.service).slice(0, 120))}</bdi>
          <bdi className="clip">{visible(row.name.slice(0, 300)) || '(no name)'}</bdi>
        </button>
      ),
    },
    {
      id: 'spans',
      title: 'spans',
      width: '120px',
      numeric: true,
      sort: (row) => Math.abs(row.here.spans - row.there.spans),
      cell: (row) => both(formatCount(row.here.spans), formatCount(row.there.spans)),
    },
    {
      id: 'errors',
      title: 'errors',
      width: '90px',
      numeric: true,
      sort: (row) => Math.abs(row.here.errors - row.there.errors),
      cell: (row) => both(formatCount(row.here.errors), formatCount(row.there.errors)),
    },
    {
      id: 'total',
      title: 'in all',
      width: '170px',
      numeric: true,
      sort: (row) => Math.abs(row.here.totalNs - row.there.totalNs),
      cell: (row) => both(time(row.here.totalNs), time(row.there.totalNs)),
    },
    {
      id: 'self',
      title: 'by itself',
      width: '170px',
      numeric: true,
      sort: (row) => Math.max(row.here.selfNs, row.there.selfNs),
      cell: (row) => both(time(row.here.selfNs), time(row.there.selfNs)),
    },
    {
      id: 'bars',
      title: 'beside each other',
      width: '120px',
      cell: (row) => (
        <span className="compare-bars" aria-hidden>
          <span className="is-chosen" style={{ width: `${(row.here.selfNs / longest) * 100}%` }} />
          <span style={{ width: `${(row.there.selfNs / longest) * 100}%` }} />
        </span>
      ),
    },
    {
      id: 'difference',
      title: 'difference',
      width: '110px',
      numeric: true,
      sort: (row) => Math.abs(selfDifference(row)),
      cell: (row) => <b>{signed(selfDifference(row), time(Math.abs(selfDifference(row))))}</b>,
    },
  ];
}
