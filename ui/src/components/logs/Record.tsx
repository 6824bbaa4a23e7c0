// One record, whole: typed fields with what can be done with each, what its stream wrote around it, and its JSON.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ChartNoAxesGantt, Columns3, Minus, Pin, PinOff, Plus, X } from 'lucide-react';
import { type ReactNode, useState } from 'react';
import { type LogQuestion, type LogRow, type LogValue, logContext } from '../../api/logs';
import { runsOf } from '../../lib/ansi';
import { levelOf, millisOf, textOf, typeOf, visible } from '../../lib/logrow';
import { formatMoment } from '../../lib/time';
import { currentTenant } from '../../state/prefs';
import { JsonText } from '../JsonText';
import { LongText } from '../LongText';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button, CopyButton, IconButton, Tabs } from '../ui';
import type { Narrow } from './Facets';
import { LineText, Runs } from './LineText';

const AROUND = [10, 50, 200];

export function RecordDrawer({
  id,
  known,
  question,
  zone,
  columns,
  raw,
  isPinned,
  onPin,
  onNarrow,
  onColumn,
  onClose,
}: {
  id: string;
  /** Of the list, if it is there. */
  known: LogRow | undefined;
  question: LogQuestion;
  zone: string;
  columns: string[];
  /** Sequences for terminals as they are. */
  raw: boolean;
  isPinned: (row: LogRow) => boolean;
  onPin: (row: LogRow) => void;
  onNarrow: Narrow;
  onColumn: (field: string) => void;
  onClose: () => void;
}) {
  const [tab, setTab] = useState('fields');
  const [around, setAround] = useState(AROUND[0]!);
  const context = useQuery({
    queryKey: ['timed', 'log-context', currentTenant(), question, id, around],
    enabled: tab === 'around' || !known,
    queryFn: ({ signal }) => logContext(question, id, around, signal),
    placeholderData: (old, before) => (before?.queryKey[4] === id ? old : undefined),
  });
  const row = known ?? context.data?.data.row ?? undefined;
  const json = row ? textOf(row as unknown as LogValue, 2) : '';
  return (
    <aside className="side-drawer log-record" aria-label="Log record" data-testid="log-record">
      <header className="dialog-head">
        <h2 className="dialog-title tab-num">{row ? formatMoment(millisOf(row), zone, true) : 'Log record'}</h2>
        <span className="spring" />
        {row && (
          <IconButton
            icon={isPinned(row) ? PinOff : Pin}
            label={isPinned(row) ? 'Take the pin away (b)' : 'Pin (b): stays in sight'}
            active={isPinned(row)}
            onClick={() => onPin(row)}
          />
        )}
        {row && <CopyButton text={textOf(row.body)} label="Copy the body" />}
        <IconButton icon={X} label="Close (Esc)" onClick={onClose} />
      </header>
      <Tabs
        label="View of the record"
        value={tab}
        choices={[
          { id: 'fields', label: 'Fields' },
          { id: 'around', label: 'Surroundings' },
          { id: 'json', label: 'JSON' },
        ]}
        onChange={setTab}
      />
      <div className="record-body">
        {!row ? (
          context.error ? (
            <ErrorBox error={context.error} onRetry={() => void context.refetch()} />
          ) : context.data ? (
            <Empty title="This record is not there any more">
              The search or its time may be another than that of the link, or the record is past its retention.
            </Empty>
          ) : (
            <Skeleton rows={8} />
          )
        ) : tab === 'fields' ? (
          <Fields row={row} columns={columns} raw={raw} onNarrow={onNarrow} onColumn={onColumn} />
        ) : tab === 'json' ? (
          <JsonText json={json} />
        ) : context.error ? (
          <ErrorBox error={context.error} onRetry={() => void context.refetch()} />
        ) : !context.data ? (
          <Skeleton rows={10} />
        ) : (
          <>
            <p className="muted small">What the same stream wrote before and after it, whatever the search.</p>
            <ol className="around" data-testid="log-around">
              {[...context.data.data.before, row, ...context.data.data.after].map((line, i) => (
                <li key={i} className={i === context.data.data.before.length ? 'is-this' : ''}>
                  <span className={`log-mark lv-${levelOf(line.level)}`} aria-hidden />
                  <span className="log-time tab-num">{formatMoment(millisOf(line), zone, true).slice(11)}</span>
                  <LineText row={line} wrap raw={raw} />
                </li>
              ))}
            </ol>
            {AROUND.filter((n) => n > around)
              .slice(0, 1)
              .map((n) => (
                <Button key={n} onClick={() => setAround(n)}>
                  {n} before and after
                </Button>
              ))}
          </>
        )}
      </div>
    </aside>
  );
}

const inLooks = (text: string): ReactNode => (
  <Runs runs={runsOf(text).map((run) => ({ ...run, text: visible(run.text) }))} words={[]} />
);

function Fields({
  row,
  columns,
  raw,
  onNarrow,
  onColumn,
}: {
  row: LogRow;
  columns: string[];
  raw: boolean;
  onNarrow: Narrow;
  onColumn: (field: string) => void;
}) {
  const own: [string, LogValue | undefined, string?][] = [
    ['level', row.level],
    ['severity_text', row.severityText],
    ['trace_id', row.traceId],
    ['span_id', row.spanId],
    ['event_name', row.eventName],
    ['scope.name', row.scope?.name],
    ['scope.version', row.scope?.version],
  ];
  const groups: [string, string, [string, LogValue | undefined][]][] = [
    ['Record', '', own.map(([name, value]) => [name, value])],
    ['Attributes', '', Object.entries(row.attributes ?? {})],
    ['Resource', 'resource.', Object.entries(row.resource ?? {})],
    ['Scope', 'scope.attributes.', Object.entries(row.scope?.attributes ?? {})],
  ];
  return (
    <>
      {row.traceId && (
        <Link
          className="trace-chip"
          to="/trace/$id"
          params={{ id: row.traceId }}
          search={{ span: row.spanId || undefined }}
          title={`Trace ${row.traceId}`}
        >
          <ChartNoAxesGantt size={13} aria-hidden /> Open its trace
        </Link>
      )}
      <LongText
        className={`record-text lv-line lv-${levelOf(row.level)}`}
        text={textOf(row.body, 2)}
        render={raw ? undefined : inLooks}
      />
      {groups.map(([title, place, fields]) => {
        const there = fields.filter(([, value]) => value !== undefined && value !== '');
        if (there.length === 0) return null;
        return (
          <section key={title}>
            <h3>{title}</h3>
            <dl className="record-fields">
              {there.map(([name, value]) => {
                // A name that the record has, too, means the record's: then the place is said.
                const field = place !== '' && row.attributes && name in row.attributes ? place + name : name;
                return (
                  <div key={name}>
                    <dt>
                      <bdi>{name}</bdi> <span className="kind">{typeOf(value!)}</span>
                    </dt>
                    <dd>
                      <LongText text={textOf(value)} />
                      <span className="record-tools">
                        <IconButton
                          icon={Plus}
                          label={`Only ${name} = this`}
                          onClick={() => onNarrow(field, textOf(value))}
                        />
                        <IconButton
                          icon={Minus}
                          label={`Without ${name} = this`}
                          onClick={() => onNarrow(field, textOf(value), true)}
                        />
                        <IconButton
                          icon={Columns3}
                          label={columns.includes(field) ? `Take the column ${name} away` : `Show ${name} as a column`}
                          active={columns.includes(field)}
                          onClick={() => onColumn(field)}
                        />
                        <CopyButton text={textOf(value)} label={`Copy ${name}`} />
                      </span>
                    </dd>
                  </div>
                );
              })}
            </dl>
          </section>
        );
      })}
      <section>
        <h3>Time</h3>
        <dl className="record-fields">
          <Line name="time" value={row.time} />
          <Line name="nanoseconds" value={row.timeUnixNano} />
          {row.observedTimeUnixNano && <Line name="observed, nanoseconds" value={row.observedTimeUnixNano} />}
        </dl>
      </section>
    </>
  );
}

function Line({ name, value }: { name: string; value: string }): ReactNode {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span className="mono tab-num">{value}</span>
        <span className="record-tools">
          <CopyButton text={value} label={`Copy ${name}`} />
        </span>
      </dd>
    </div>
  );
}
