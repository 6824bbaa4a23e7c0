// Inside a chart: the numbers as a table, what they cost the server, and the question as it was sent.

import { useMutation } from '@tanstack/react-query';
import { Download, Route } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useMemo, useState } from 'react';
import { type Answer, address } from '../api/client';
import {
  INSTANT_PATH,
  type InstantData,
  type InstantQuery,
  instantParams,
  queryInstant,
  queryRange,
  RANGE_PATH,
  type RangeData,
  type RangeQuery,
  rangeParams,
} from '../api/prometheus';
import type { SqlTable } from '../api/sql';
import { atMoment, bySeries, byTime, curlOf, pointsOf, shardTable } from '../lib/inside';
import { jsonOf } from '../lib/logrow';
import { saveAs } from '../lib/save';
import { csvOf } from '../lib/sqltable';
import { formatDuration, formatMoment } from '../lib/time';
import { formatBytes, formatCount, formatValue } from '../lib/units';
import { currentTenant } from '../state/prefs';
import { Dialog } from './floating';
import { Grid } from './sql/Grid';
import { Empty, ErrorBox, RemarkList, Skeleton } from './states';
import { Button, CopyButton, Segmented, Tabs } from './ui';
import '../style/inspect.css';

const TraceLink = lazy(() => import('./TraceLink'));

export interface Inspected {
  /** What the page calls the query. */
  name: string;
  text: string;
  /** Of PromQL: as it was sent. */
  asked?: { range: RangeQuery } | { instant: InstantQuery };
  answer?: Answer<unknown>;
  error?: unknown;
}

type Numbers = RangeData | InstantData;

const isNumbers = (data: unknown): data is Numbers =>
  typeof data === 'object' && data !== null && 'resultType' in data && data.resultType !== 'streams';

const isTable = (data: unknown): data is SqlTable =>
  typeof data === 'object' && data !== null && 'columns' in data && 'rows' in data && Array.isArray(data.columns);

/** Characters of an answer that is no table; the file has all of them. */
const MOST_TEXT = 200_000;

/** Series that are columns of the table; the file has all of them. */
const COLUMNS = 60;

export default function Inspect({
  title,
  parts,
  zone,
  about,
  onClose,
}: {
  title: string;
  parts: Inspected[];
  zone: string;
  /** More to see, beside the answers. */
  about?: { label: string; content: ReactNode };
  onClose: () => void;
}) {
  const [view, setView] = useState(parts.length === 0 && about ? 'inside-about' : 'inside-data');
  const [at, setAt] = useState(0);
  const part = parts[at] ?? parts[0];
  return (
    <Dialog open onClose={onClose} title={`Inside ${title}`} width={1000}>
      <div className="inspect" data-testid="inspect">
        <div className="inspect-bar">
          <Tabs
            label="What is looked at"
            value={view}
            choices={[
              ...(parts.length > 0
                ? [
                    { id: 'inside-data', label: 'Data' },
                    { id: 'inside-cost', label: 'Statistics' },
                    { id: 'inside-request', label: 'Query' },
                  ]
                : []),
              ...(about ? [{ id: 'inside-about', label: about.label }] : []),
            ]}
            onChange={setView}
          />
          <span className="spring" />
          {parts.length > 1 && view !== 'inside-about' && (
            <Segmented
              label="Of which query"
              value={String(at)}
              choices={parts.map(({ name }, i) => ({ id: String(i), label: name }))}
              onChange={(id) => setAt(Number(id))}
            />
          )}
        </div>
        {view === 'inside-about' ? (
          about?.content
        ) : !part ? null : view === 'inside-request' ? (
          <Request part={part} />
        ) : part.error ? (
          <ErrorBox error={part.error} query={part.text} />
        ) : !part.answer ? (
          <Skeleton rows={8} height={300} />
        ) : view === 'inside-data' ? (
          <Data key={at} part={part} answer={part.answer} zone={zone} />
        ) : (
          <Statistics key={at} part={part} answer={part.answer} zone={zone} />
        )}
      </div>
    </Dialog>
  );
}

function Data({ part, answer, zone }: { part: Inspected; answer: Answer<unknown>; zone: string }) {
  const { data, warnings, infos } = answer;
  const [rows, setRows] = useState<'time' | 'series'>('time');
  const matrix = isNumbers(data) && data.resultType === 'matrix' ? data.result : null;
  const table = useMemo((): SqlTable | null => {
    if (isTable(data)) return data;
    if (!isNumbers(data)) return null;
    if (data.resultType !== 'matrix') return atMoment(data);
    return rows === 'series' ? bySeries(data.result) : byTime(data.result, COLUMNS);
  }, [data, rows]);
  if (!table) return <Json data={data} name={part.name} />;
  return (
    <>
      <RemarkList warnings={warnings} infos={infos} />
      <div className="inspect-bar">
        {matrix && (
          <Segmented
            label="A row for each"
            value={rows}
            choices={[
              { id: 'time', label: 'By time' },
              { id: 'series', label: 'By series' },
            ]}
            onChange={(id) => setRows(id as typeof rows)}
          />
        )}
        <span className="muted small">
          {formatCount(table.rows.length)} {table.rows.length === 1 ? 'row' : 'rows'}
          {matrix && rows === 'time' && matrix.length > COLUMNS
            ? `, ${COLUMNS} of ${formatCount(matrix.length)} series; the file has all`
            : ''}
        </span>
        <span className="spring" />
        <Button
          icon={Download}
          disabled={table.rows.length === 0}
          onClick={() => {
            const whole = matrix && rows === 'time' ? byTime(matrix) : table;
            saveAs(`query ${part.name}${matrix ? ` by ${rows}` : ''}.csv`, csvOf(whole), 'text/csv');
          }}
        >
          CSV
        </Button>
      </div>
      {table.rows.length === 0 ? (
        <Empty title="There are no numbers">The query is answered, and nothing meets it in this time.</Empty>
      ) : (
        <Grid
          key={rows}
          table={table}
          zone={zone}
          label={`Data of query ${part.name}`}
          most={Math.max(240, window.innerHeight - 330)}
        />
      )}
    </>
  );
}

/** Answers that are no numbers and no table. */
function Json({ data, name }: { data: unknown; name: string }) {
  const text = useMemo(() => jsonOf(data, 2) ?? '', [data]);
  return (
    <>
      <div className="inspect-bar">
        {text.length > MOST_TEXT && (
          <span className="muted small">The first {formatCount(MOST_TEXT)} characters; the file has all</span>
        )}
        <span className="spring" />
        <Button icon={Download} onClick={() => saveAs(`query ${name}.json`, text, 'application/json')}>
          JSON
        </Button>
      </div>
      <div className="snippet">
        <pre className="inspect-json" tabIndex={0}>
          {text.slice(0, MOST_TEXT)}
        </pre>
      </div>
    </>
  );
}

/** The names that Prometheus gives to times, in words. */
const TIMES: [string, string][] = [
  ['execQueueTime', 'waited for its turn'],
  ['queryPreparationTime', 'until the shards had answered'],
  ['innerEvalTime', 'parsed, planned, evaluated'],
  ['execTotalTime', 'at the server, in all'],
];

function Statistics({ part, answer, zone }: { part: Inspected; answer: Answer<unknown>; zone: string }) {
  const { asked } = part;
  const again = useMutation({
    mutationFn: async (): Promise<Answer<unknown> | undefined> => {
      if (!asked) return undefined;
      return 'range' in asked
        ? queryRange({ ...asked.range, explain: true, traced: true })
        : queryInstant({ ...asked.instant, explain: true, traced: true });
    },
  });
  const shown = again.data ?? answer;
  const { data } = shown;
  const numbers = isNumbers(data) ? data : null;
  const shards = useMemo(() => (numbers?.explain ? shardTable(numbers.explain.fragments) : null), [numbers]);
  const stats = numbers?.stats;
  const seconds = (value: number): string => formatValue(value, 's');
  const series =
    numbers?.resultType === 'matrix' || numbers?.resultType === 'vector' ? numbers.result.length : undefined;
  return (
    <>
      <dl className="facts" data-testid="inspect-facts">
        <Fact name="answer">
          {series !== undefined && `${formatCount(series)} series, ${formatCount(pointsOf(numbers!))} points, `}
          {isTable(data) && `${formatCount(data.rows.length)} rows, `}
          {formatBytes(shown.bytes)}
        </Fact>
        <Fact name="asked and read by the page in">{seconds(shown.elapsedMs / 1000)}</Fact>
        {stats &&
          TIMES.map(
            ([name, words]) =>
              stats.timings[name] !== undefined && (
                <Fact key={name} name={words}>
                  {seconds(stats.timings[name])}
                </Fact>
              ),
          )}
        {stats && (
          <Fact name="samples read">
            {formatCount(stats.samples.totalQueryableSamples)}, at most {formatCount(stats.samples.peakSamples)} at once
          </Fact>
        )}
        {stats?.pharos && (
          <>
            <Fact name="series read">{formatCount(stats.pharos.series)}</Fact>
            <Fact name="fragments sent to shards">{formatCount(stats.pharos.fragments)}</Fact>
            {stats.pharos.cachedSteps > 0 && (
              <Fact name="steps known from before">{formatCount(stats.pharos.cachedSteps)}</Fact>
            )}
            <Fact name="work of all shards">{seconds(stats.pharos.shardMicros / 1e6)}</Fact>
          </>
        )}
        <Fact name="its trace">
          {shown.trace ? (
            <Suspense fallback={<code>{shown.trace}</code>}>
              <TraceLink id={shown.trace} />
            </Suspense>
          ) : (
            <span className="muted">not kept: of each route the server keeps some</span>
          )}
        </Fact>
      </dl>
      {asked && (
        <div className="inspect-bar">
          <Button icon={Route} onClick={() => again.mutate()} disabled={again.isPending}>
            Ask again, with its trace and each shard
          </Button>
          {again.isPending && (
            <span className="muted small" role="status">
              asking…
            </span>
          )}
        </div>
      )}
      {again.error && <ErrorBox error={again.error} query={part.text} />}
      {shards &&
        (shards.rows.length > 0 ? (
          <Grid table={shards} zone={zone} label="Work of the shards" most={300} />
        ) : (
          <p className="muted small">No shard was asked: the expression needs no data, or all of it was known.</p>
        ))}
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="tab-num">
        <span>{children}</span>
      </dd>
    </div>
  );
}

function Request({ part: { text, asked } }: { part: Inspected }) {
  if (!asked) return <Text title="The query, as it was asked" text={text} />;
  const isRange = 'range' in asked;
  const [path, all] = isRange ? [RANGE_PATH, rangeParams(asked.range)] : [INSTANT_PATH, instantParams(asked.instant)];
  const params = Object.entries(all).flatMap(([name, value]): [string, string][] =>
    value === undefined || value === '' ? [] : [[name, String(value)]],
  );
  const { tenant } = isRange ? asked.range : asked.instant;
  return (
    <div className="stack">
      <Text title="The query, as it was asked" text={text} />
      {isRange && (
        <p className="muted small tab-num">
          {formatDuration(asked.range.to - asked.range.from)} in steps of {formatDuration(asked.range.step)}, to{' '}
          {formatMoment(asked.range.to, 'utc')} UTC
        </p>
      )}
      <Text title={`GET ${path}`} text={params.map(([name, value]) => `${name} = ${value}`).join('\n')} />
      <Text title="From a shell" text={curlOf(address(path), params, tenant ?? currentTenant())} />
    </div>
  );
}

function Text({ title, text }: { title: string; text: string }) {
  return (
    <>
      <h3>{title}</h3>
      <div className="snippet">
        <pre tabIndex={0}>{text}</pre>
        <CopyButton text={text} label={`Copy: ${title}`} />
      </div>
    </>
  );
}
