// A query that asks for numbers: as lines over time, or, where it asks for a histogram, as heat.

import { useQuery } from '@tanstack/react-query';
import { ChartLine } from 'lucide-react';
import { useMemo, useState } from 'react';
import type { LogValue } from '../../api/logs';
import { type TraceQuestion, traceMetrics } from '../../api/traces';
import { textOf } from '../../lib/logrow';
import { frameOfTraces } from '../../lib/red';
import type { Range } from '../../lib/time';
import { traceHeat } from '../../lib/traceheat';
import { formatCount } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { Chart } from '../Chart';
import { Heatmap } from '../Heatmap';
import { Legend } from '../Legend';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Panel } from '../ui';

/** Series that are drawn; more are a reason to group by fewer fields. */
const DRAWN = 100;

/** What tells a series from the others. */
function nameOf(labels: Record<string, LogValue>): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}=${textOf(value) || '(none)'}`);
  return parts.length === 0 ? 'all' : parts.join(', ');
}

export function Numbers({
  question,
  step,
  zone,
  onZoom,
}: {
  question: TraceQuestion;
  step: number;
  zone: string;
  onZoom: (range: Range) => void;
}) {
  const { query, from, to } = question;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const found = useQuery({
    queryKey: ['timed', 'trace-numbers', currentTenant(), question, step],
    queryFn: ({ signal }) => traceMetrics(question, step, signal),
  });
  const series = found.data?.data.series;
  const isHeat = series?.some((one) => '__bucket' in one.labels) ?? false;
  const heat = useMemo(
    () => (series && isHeat ? traceHeat(series, from, to, step) : null),
    [series, isHeat, from, to, step],
  );
  const frame = useMemo(
    () => (series && !isHeat ? frameOfTraces(series.slice(0, DRAWN), from, to, step, nameOf) : null),
    [series, isHeat, from, to, step],
  );
  const unit = /_over_time\(\s*(?:span:|trace:)?(?:duration|traceDuration)\b/.test(query) ? 's' : 'short';
  if (found.error) return <ErrorBox error={found.error} query={query} onRetry={() => void found.refetch()} />;
  if (!series) return <Skeleton height={360} rows={8} />;
  return (
    <Panel title={<code>{query.slice(0, 300)}</code>} note={`${formatCount(series.length)} series`} className="result">
      {heat && heat.rows.length > 0 ? (
        <Heatmap
          heat={heat}
          range={{ from, to }}
          zone={zone}
          height={360}
          unit={unit}
          onZoom={onZoom}
          dimmed={found.isPlaceholderData}
          label={query}
        />
      ) : frame && frame.series.length > 0 ? (
        <>
          <Chart
            frame={frame}
            range={{ from, to }}
            zone={zone}
            height={320}
            unit={unit}
            hidden={hidden}
            emphasised={emphasised}
            onZoom={onZoom}
            dimmed={found.isPlaceholderData}
            label={query}
          />
          {series.length > DRAWN && (
            <p className="cap-note">
              {DRAWN} of {formatCount(series.length)} series are drawn: group by fewer fields to see all.
            </p>
          )}
          <Legend frame={frame} unit={unit} hidden={hidden} onHidden={setHidden} onEmphasise={setEmphasised} tools />
        </>
      ) : (
        <Empty icon={ChartLine} title="No span of this time gives a number">
          A field that a span does not have, or that holds text, gives none.
        </Empty>
      )}
    </Panel>
  );
}
