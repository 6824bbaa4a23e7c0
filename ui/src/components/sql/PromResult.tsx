// What PromQL gave in a notebook: over the range a chart, at one moment bars; or a table.

import { ScanSearch } from 'lucide-react';
import { lazy, Suspense, useMemo, useState } from 'react';
import type { Answer } from '../../api/client';
import type { InstantData, InstantQuery, RangeData, RangeQuery } from '../../api/prometheus';
import { type Frame, frameOf, rowsOf, shortNames } from '../../lib/frame';
import { atMoment, byPoint, byTime, promqlInSql } from '../../lib/inside';
import { seriesName } from '../../lib/labels';
import { MOST_NAMES, MOST_SERIES } from '../../lib/sqlchart';
import { formatCount } from '../../lib/units';
import { Chart } from '../Chart';
import { Legend } from '../Legend';
import { NoData } from '../NoData';
import { PartialTag, StatsLine } from '../QueryInfo';
import { Empty, RemarkList } from '../states';
import { Button, Segmented } from '../ui';
import { Downloads } from './Downloads';
import { Grid } from './Grid';
import { NameBars } from './NameBars';

const Inspect = lazy(() => import('../Inspect'));

export type PromOutcome =
  | { asked: { range: RangeQuery }; answer: Answer<RangeData> }
  | { asked: { instant: InstantQuery }; answer: Answer<InstantData> };

export default function PromResult({
  outcome,
  zone,
  name,
  isTable,
  onView,
}: {
  outcome: PromOutcome;
  zone: string;
  name: string;
  isTable: boolean;
  onView: (isTable: boolean) => void;
}) {
  const { answer, asked } = outcome;
  const [inside, setInside] = useState(false);
  const { query } = 'range' in asked ? asked.range : asked.instant;
  const series =
    answer.data.resultType === 'matrix' || answer.data.resultType === 'vector' ? answer.data.result.length : 1;
  const table = () => (answer.data.resultType === 'matrix' ? byPoint(answer.data.result) : atMoment(answer.data));
  return (
    <div className="sql-result">
      <RemarkList warnings={answer.warnings} infos={answer.infos} />
      <div className="sql-result-bar">
        <Segmented
          label="Shown as"
          value={isTable ? 'table' : 'chart'}
          choices={[
            { id: 'chart', label: 'Chart' },
            { id: 'table', label: 'Table' },
          ]}
          onChange={(id) => onView(id === 'table')}
        />
        <StatsLine elapsedMs={answer.elapsedMs} bytes={answer.bytes} stats={answer.data.stats} series={series} />
        <PartialTag answers={[answer]} />
        <span className="spring" />
        <Button look="ghost" icon={ScanSearch} onClick={() => setInside(true)}>
          Inspect
        </Button>
        {series > 0 && (
          <Downloads
            table={table}
            name={name}
            statement={promqlInSql(query, 'range' in asked ? asked.range : { time: asked.instant.time ?? Date.now() })}
          />
        )}
      </div>
      {series === 0 ? (
        <NoData queries={[query]} />
      ) : isTable ? (
        <Rows data={answer.data} zone={zone} name={name} />
      ) : 'range' in asked ? (
        <Lines data={answer.data as RangeData} asked={asked.range} zone={zone} label={name} />
      ) : (
        <Bars data={answer.data as InstantData} label={name} />
      )}
      <Suspense>
        {inside && (
          <Inspect
            title={name}
            parts={[{ name, text: query, asked, answer }]}
            zone={zone}
            onClose={() => setInside(false)}
          />
        )}
      </Suspense>
    </div>
  );
}

function Rows({ data, zone, name }: { data: RangeData | InstantData; zone: string; name: string }) {
  const table = useMemo(
    () => (data.resultType === 'matrix' ? byTime(data.result, MOST_SERIES) : atMoment(data)),
    [data],
  );
  return (
    <>
      {data.resultType === 'matrix' && data.result.length > MOST_SERIES && (
        <p className="cap-note">
          {MOST_SERIES} of {formatCount(data.result.length)} series are columns; files have all.
        </p>
      )}
      <Grid table={table} zone={zone} label={`Rows of ${name}`} />
    </>
  );
}

function Lines({ data, asked, zone, label }: { data: RangeData; asked: RangeQuery; zone: string; label: string }) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const { from, to, step } = asked;
  const frame = useMemo(
    () => frameOf([{ result: data.result.slice(0, MOST_SERIES), query: 0 }], from, to, step),
    [data, from, to, step],
  );
  if (frame.series.length === 0)
    return (
      <Empty title="The answer is native histograms">
        They have buckets, not one value; <code>histogram_quantile</code> or <code>histogram_avg</code> makes lines of
        them, and Explore draws them as a heatmap.
      </Empty>
    );
  return (
    <>
      <Chart
        frame={frame}
        range={{ from, to }}
        zone={zone}
        height={300}
        hidden={hidden}
        emphasised={emphasised}
        label={label}
      />
      <Legend frame={frame} hidden={hidden} onHidden={setHidden} onEmphasise={setEmphasised} />
      {data.result.length > MOST_SERIES && (
        <p className="cap-note">
          {MOST_SERIES} of {formatCount(data.result.length)} series are drawn.
        </p>
      )}
    </>
  );
}

function Bars({ data, label }: { data: InstantData; label: string }) {
  const rows = useMemo(() => rowsOf(data).filter((row) => row.value !== null), [data]);
  const shown = useMemo(() => [...rows].sort((a, b) => b.value! - a.value!).slice(0, MOST_NAMES), [rows]);
  const frame: Frame = {
    times: shown.map((_, i) => i),
    series: [{ id: 'value', labels: {}, name: 'value', values: shown.map((row) => row.value), query: 0 }],
  };
  if (shown.length === 0)
    return <Empty title="There are no numbers to draw">The answer is a text, or histograms: the table has it.</Empty>;
  const short = shortNames(shown.map((row) => row.labels));
  // Names that are alike would be one: whole ones are not.
  const names = new Set(short).size === short.length ? short : shown.map((row) => seriesName(row.labels));
  return (
    <>
      <NameBars frame={frame} names={names} label={label} />
      {rows.length > shown.length && (
        <p className="cap-note">
          The {shown.length} largest of {formatCount(rows.length)} series are drawn.
        </p>
      )}
    </>
  );
}
