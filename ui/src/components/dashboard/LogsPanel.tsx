// Lines of logs on a dashboard: each opens in its place, with its fields and the way to Logs and to its trace.

import { Link } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { ChartNoAxesGantt, ChevronDown, ChevronRight, ScrollText } from 'lucide-react';
import { useEffect, useMemo, useRef, useState } from 'react';
import { type LogRow, type LogValue, searchLogs } from '../../api/logs';
import { lokiRange } from '../../api/loki';
import { askedText } from '../../lib/dashboard/asked';
import { type PanelLine, rowsOfStreams, sortedLines } from '../../lib/dashboard/loglines';
import { languageOf } from '../../lib/dashboard/model';
import { builtins, interpolate } from '../../lib/dashboard/variables';
import { fieldOf, levelOf, lineOf, marked, millisOf, textOf, visible } from '../../lib/logrow';
import { filterText, wantedWords } from '../../lib/logsearch';
import { formatMoment, niceStep } from '../../lib/time';
import { formatCount } from '../../lib/units';
import { usePanelQueries } from '../../state/panels';
import { currentTenant, usePrefs } from '../../state/prefs';
import { Empty } from '../states';
import { PanelStates } from './PanelStates';
import { panelRange, type ShownPanel } from './PanelView';
import '../../style/logs.css';

export const LINES = 200;
const MOST_LINES = 5000;
/** What the server said of the one or other language, alike. */
interface Found {
  rows: LogRow[];
  more: boolean;
}

export const linesOf = (limit: number | undefined): number =>
  Math.min(Math.max(Math.round(limit ?? LINES), 1), MOST_LINES);

export default function LogsPanel({ panel, context, height, isSeen }: ShownPanel) {
  const { options } = panel;
  const { tenant, zone } = context;
  const range = panelRange(panel, context.range, context.scope, zone);
  const step = niceStep(range, 300);
  const scope = { ...builtins(range, step), ...context.scope };
  const limit = linesOf(options.limit);
  const span = { from: Math.floor(range.from), to: Math.ceil(range.to) };
  const queries = panel.queries
    .filter((q) => !q.hidden)
    .map((q) => {
      const language = languageOf('logs', q);
      return {
        ref: q.ref,
        language,
        text: askedText(language, q.expr, scope, { range, step }, context.rewrite).trim(),
      };
    })
    // A search that says nothing finds everything; LogQL has no such thing.
    .filter((q) => q.language === 'search' || q.text !== '');
  const asked = usePanelQueries<Found>(
    queries.map(({ ref, language, text }) => ({
      ref,
      text,
      key: ['logs', tenant ?? currentTenant(), language, text, span.from, span.to, limit],
      run: async (signal) => {
        if (language === 'search') {
          const answer = await searchLogs({ query: text, ...span }, { limit }, signal, tenant);
          const { rows, cursor } = answer.data;
          return { ...answer, data: { rows, more: cursor !== null && rows.length >= limit } };
        }
        const answer = await lokiRange({ query: text, ...span, step, limit, tenant }, signal);
        if (answer.data.resultType !== 'streams')
          throw new Error('This query gives numbers, not lines: choose the kind Time series.');
        const rows = rowsOfStreams(answer.data.result);
        return { ...answer, data: { rows, more: rows.length >= limit } };
      },
    })),
    isSeen,
  );
  const answered = asked.map(({ hash, answer }) => `${hash} ${answer?.elapsedMs} ${answer?.bytes}`).join('\n');
  // biome-ignore lint/correctness/useExhaustiveDependencies: `answered` stands for the answers
  const lines = useMemo(
    () =>
      sortedLines(
        asked.flatMap(({ ref, answer }) => (answer?.data.rows ?? []).map((row) => ({ row, ref }))),
        options.oldestFirst === true,
      ),
    [answered, options.oldestFirst],
  );
  const words = [...new Set(queries.flatMap((q) => wordsOf(q.language, q.text)))];
  const more = asked.some((a) => a.answer?.data.more);
  const search = queries.length === 1 && queries[0]!.language === 'search' ? queries[0]!.text : undefined;
  return (
    <PanelStates
      panel={panel}
      title={interpolate(panel.title, context.scope, 'text')}
      height={height}
      isSeen={isSeen}
      asked={asked}
      reportAs={context.reportAs}
    >
      {lines.length === 0 ? (
        <Empty icon={ScrollText} title="No lines in this range">
          The search is answered and finds nothing here.
        </Empty>
      ) : (
        <Lines
          lines={lines}
          fields={options.fields ?? []}
          words={words}
          wrap={options.wrap === true}
          zone={zone}
          dated={range.to - range.from > 86_400_000}
          dimmed={asked.some((a) => a.isOld)}
          label={panel.title || 'Log lines'}
          range={span}
          searchOf={(ref) => {
            const query = queries.find((q) => q.ref === ref);
            return query?.language === 'search' ? query.text : null;
          }}
          foot={
            more ? (
              <>
                the newest {formatCount(limit)}
                {queries.length > 1 ? ' of each query' : ''}; there are more
                {search !== undefined && (
                  <>
                    {': '}
                    <Link
                      to="/logs"
                      search={{ q: search || undefined, from: String(span.from), to: String(span.to) } as never}
                    >
                      all of them in Logs
                    </Link>
                  </>
                )}
              </>
            ) : null
          }
        />
      )}
    </PanelStates>
  );
}

/** What a query looks for in bodies. */
function wordsOf(language: string, text: string): string[] {
  if (language === 'search') return wantedWords(text);
  return [...text.matchAll(/\|=\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`)/g)]
    .map((m) => m[2] ?? m[1]!.replace(/\\(.)/g, '$1'))
    .filter((word) => word.length > 1);
}

function Lines({
  lines,
  fields,
  words,
  wrap,
  zone,
  dated,
  dimmed,
  label,
  range,
  searchOf,
  foot,
}: {
  lines: PanelLine[];
  fields: string[];
  words: string[];
  wrap: boolean;
  zone: string;
  dated: boolean;
  dimmed: boolean;
  label: string;
  range: { from: number; to: number };
  /** The search that a query is; null where it is another language. */
  searchOf: (ref: string) => string | null;
  foot: React.ReactNode;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const height = usePrefs((s) => s.density) === 'compact' ? 21 : 28;
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const keyOf = (i: number): string => {
    const { row, ref } = lines[i]!;
    return `${ref}:${row.id ?? `${row.timeUnixNano}:${i}`}`;
  };
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    getItemKey: keyOf,
    overscan: 12,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: sizes are measured anew when lines begin or cease to wrap
  useEffect(() => virtual.measure(), [wrap, height]);
  const template = `3px 16px ${dated ? '156px' : '92px'} 46px ${fields.map(() => 'minmax(60px, 140px)').join(' ')} minmax(180px, 1fr)`;
  return (
    <div className={`panel-lines ${dimmed ? 'is-dimmed' : ''}`}>
      <div ref={scroller} className="log-scroll" tabIndex={0} role="group" aria-label={label} data-testid="panel-lines">
        <ul style={{ height: virtual.getTotalSize() }} className="log-space">
          {virtual.getVirtualItems().map((item) => {
            const { row, ref } = lines[item.index]!;
            const level = levelOf(row.level);
            const time = formatMoment(millisOf(row), zone, true);
            const key = keyOf(item.index);
            const isOpen = open.has(key);
            const Glyph = isOpen ? ChevronDown : ChevronRight;
            return (
              <li
                key={item.key}
                ref={virtual.measureElement}
                data-index={item.index}
                className="panel-line"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <button
                  type="button"
                  className={`log-row ${wrap ? 'is-wrapped' : ''}`}
                  style={{ gridTemplateColumns: template, minHeight: height }}
                  aria-expanded={isOpen}
                  onClick={() =>
                    setOpen((old) => {
                      const next = new Set(old);
                      if (!next.delete(key)) next.add(key);
                      return next;
                    })
                  }
                >
                  <span className={`log-mark lv-${level}`} aria-hidden />
                  <Glyph size={12} aria-hidden />
                  <span className="log-time tab-num">{dated ? time.slice(5) : time.slice(11)}</span>
                  <span className={`log-level lv-${level}`}>{level === 'none' ? '' : level}</span>
                  {fields.map((field) => (
                    <bdi key={field} className="clip log-cell">
                      {lineOf({ ...row, body: textOf(fieldOf(row, field)) }, false)}
                    </bdi>
                  ))}
                  <bdi className="log-body">
                    {marked(lineOf(row, wrap), words).map((part, i) =>
                      part.hit ? <mark key={i}>{part.text}</mark> : part.text,
                    )}
                  </bdi>
                </button>
                {isOpen && <Fields row={row} search={searchOf(ref)} range={range} />}
              </li>
            );
          })}
        </ul>
      </div>
      {foot && <div className="log-foot">{foot}</div>}
    </div>
  );
}

const TOLD = 100;

function Fields({ row, search, range }: { row: LogRow; search: string | null; range: { from: number; to: number } }) {
  const fields: [string, LogValue | undefined][] = [
    ['level', row.level],
    ['trace_id', row.traceId],
    ['span_id', row.spanId],
    ['event_name', row.eventName],
    ...Object.entries(row.attributes ?? {}),
    ...Object.entries(row.resource ?? {}),
  ];
  const shown = new Map(fields.filter(([, value]) => value !== undefined && value !== null && value !== ''));
  return (
    <div className="panel-line-fields">
      <div className="join-row">
        <Link to="/logs" search={inLogs(row, search, range) as never}>
          <ScrollText size={13} aria-hidden />{' '}
          {search === null ? 'What was written around it, in Logs' : 'Open in Logs'}
        </Link>
        {row.traceId && (
          <Link to="/trace/$id" params={{ id: row.traceId }} search={{ span: row.spanId || undefined }}>
            <ChartNoAxesGantt size={13} aria-hidden /> Open its trace
          </Link>
        )}
      </div>
      <dl className="record-fields">
        {[...shown].slice(0, TOLD).map(([name, value]) => (
          <div key={name}>
            <dt>
              <bdi>{visible(name.slice(0, 200))}</bdi>
            </dt>
            <dd>
              <bdi>{visible(textOf(value).slice(0, 1000))}</bdi>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

const AROUND_MS = 60_000;

/** Where a record is in Logs: in its search, or among what its service wrote then. */
function inLogs(row: LogRow, search: string | null, range: { from: number; to: number }) {
  if (search !== null) return { q: search || undefined, row: row.id, from: String(range.from), to: String(range.to) };
  const at = millisOf(row);
  const service = row.attributes?.service_name;
  return {
    q: typeof service === 'string' && service !== '' ? filterText('service.name', service) : undefined,
    from: String(at - AROUND_MS),
    to: String(at + AROUND_MS),
  };
}
