// Traces in short, as a table has them: when, what, how many spans and errors, how long.

import { Link } from '@tanstack/react-router';
import type { FoundTrace } from '../../api/traces';
import { visible } from '../../lib/logrow';
import { formatMoment } from '../../lib/time';
import { serviceName } from '../../lib/trace';
import { formatCount, formatValue } from '../../lib/units';
import type { ColumnDef } from '../DataTable';

/** To a trace; where one span was looked for, to that span. */
export function openTrace(row: FoundTrace, go: (id: string, span: string | undefined) => void): void {
  go(row.traceId, row.matched === 1 ? row.sets[0]?.spans[0]?.spanId : undefined);
}

export function columnsOf(
  zone: string,
  dated: boolean,
  longest: number,
  colours: Map<string, number>,
): ColumnDef<FoundTrace>[] {
  const key = (name: string) => (
    <span className="wf-key" style={{ background: `var(--series-${(colours.get(name) ?? 0) + 1})` }} />
  );
  return [
    {
      id: 'time',
      title: 'begins',
      width: dated ? '158px' : '112px',
      cell: (row) => (
        <span className="tab-num muted">
          {formatMoment(Number(BigInt(row.startTimeUnixNano) / 1_000_000n), zone, true).slice(dated ? 5 : 11)}
        </span>
      ),
    },
    {
      id: 'root',
      title: 'root',
      width: 'minmax(240px, 2fr)',
      cell: (row) => (
        <Link
          className="trace-root-link"
          to="/trace/$id"
          params={{ id: row.traceId }}
          search={{ span: row.matched === 1 ? row.sets[0]?.spans[0]?.spanId : undefined }}
          onClick={(event) => event.stopPropagation()}
        >
          {key(row.rootService)}
          <bdi className="clip muted">{visible(serviceName(row.rootService).slice(0, 120))}</bdi>
          <bdi className="clip">{visible(row.rootName.slice(0, 300)) || '(no name)'}</bdi>
        </Link>
      ),
    },
    {
      id: 'match',
      title: 'matching',
      width: 'minmax(120px, 1fr)',
      cell: (row) => {
        const first = row.sets[0]?.spans[0];
        if (row.matched === row.spanCount) return <span className="muted">all spans</span>;
        return (
          <span title={first ? `${first.service}: ${first.name}`.slice(0, 300) : undefined}>
            <b className="tab-num">{formatCount(row.matched)}</b>{' '}
            {first && <bdi className="muted">{visible(first.name.slice(0, 120))}</bdi>}
          </span>
        );
      },
    },
    {
      id: 'services',
      title: 'services',
      width: '120px',
      cell: (row) => (
        <span
          className="trace-dots"
          title={row.services
            .map((one) => `${serviceName(one.name)}: ${one.spans} spans, ${one.errors} failed`)
            .join('\n')}
        >
          {row.services.slice(0, 7).map((one) => (
            <span key={one.name}>{key(one.name)}</span>
          ))}
          <span className="muted tab-num">{row.services.length}</span>
        </span>
      ),
    },
    {
      id: 'spans',
      title: 'spans',
      width: '70px',
      numeric: true,
      cell: (row) => formatCount(row.spanCount),
    },
    {
      id: 'errors',
      title: 'errors',
      width: '70px',
      numeric: true,
      cell: (row) =>
        row.errorCount > 0 ? (
          <span className="critical">
            <span className="wf-mark" aria-hidden>
              ■
            </span>{' '}
            {formatCount(row.errorCount)}
          </span>
        ) : (
          <span className="muted">0</span>
        ),
    },
    {
      id: 'duration',
      title: 'duration',
      width: '190px',
      cell: (row) => (
        <span className="trace-duration">
          <span className="trace-duration-bar" aria-hidden>
            <span style={{ width: `${(Number(row.durationNs) / longest) * 100}%` }} />
          </span>
          <span className="tab-num">{formatValue(Number(row.durationNs), 'ns')}</span>
        </span>
      ),
    },
  ];
}
