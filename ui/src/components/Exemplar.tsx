// One exemplar: what was measured there, and the way to its trace.

import { Link } from '@tanstack/react-router';
import { ChartNoAxesGantt } from 'lucide-react';
import { formatMoment } from '../lib/time';
import { traceIdOf } from '../lib/traceid';
import { formatValue } from '../lib/units';
import type { ExemplarDot } from './Chart';
import { Dialog } from './floating';
import { CopyButton } from './ui';

/** Labels by which exemplars name their trace and span. */
const TRACE_LABELS = ['trace_id', 'traceID', 'traceId', 'trace.id'];
const SPAN_LABELS = ['span_id', 'spanID', 'spanId', 'span.id'];

export default function ExemplarDrawer({
  dot,
  zone,
  onClose,
}: {
  dot: ExemplarDot;
  zone: string;
  onClose: () => void;
}) {
  const label = (names: string[]): string | undefined => dot.labels.find(([name]) => names.includes(name))?.[1];
  const trace = traceIdOf(label(TRACE_LABELS) ?? '');
  return (
    <Dialog open onClose={onClose} title="Exemplar" drawer>
      {trace && (
        <Link
          className="btn btn-primary"
          to="/trace/$id"
          params={{ id: trace.id }}
          search={{ span: traceIdOf(label(SPAN_LABELS) ?? '')?.id }}
        >
          <ChartNoAxesGantt size={14} aria-hidden /> Open its trace
        </Link>
      )}
      <dl className="facts">
        <div>
          <dt>time</dt>
          <dd className="tab-num">{formatMoment(dot.time, zone, true)}</dd>
        </div>
        <div>
          <dt>value</dt>
          <dd className="tab-num">{formatValue(dot.value, 'none')}</dd>
        </div>
        {dot.labels.map(([name, value], i) => (
          <div key={i}>
            <dt>
              <bdi>{name}</bdi>
            </dt>
            <dd className="mono">
              <bdi>{value}</bdi>
              <CopyButton text={value} label={`Copy ${name}`} />
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
