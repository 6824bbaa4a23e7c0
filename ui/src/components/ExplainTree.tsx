// How a query was answered: its plan as a tree, and what each shard did.

import { useState } from 'react';
import type { FragmentTrace, PlanNode } from '../api/prometheus';
import { formatBytes, formatCount, formatValue } from '../lib/units';
import { Segmented } from './ui';

/** The plan as a tree: what is evaluated where, and what each part gave. */
export function ExplainTree({ plan, fragments }: { plan: PlanNode; fragments: FragmentTrace[] }) {
  const [unit, setUnit] = useState<'seconds' | 'samples' | 'series'>('seconds');
  const byExpression = new Map(fragments.map((f) => [f.expression, f]));
  return (
    <div className="explain" data-testid="explain">
      <h3>Plan</h3>
      <ul className="plan">
        <PlanRow node={plan} fragments={byExpression} />
      </ul>
      <div className="explain-head">
        <h3>What the shards did</h3>
        {fragments.length > 0 && (
          <Segmented
            label="Measure"
            value={unit}
            choices={[
              { id: 'seconds', label: 'Time' },
              { id: 'samples', label: 'Samples' },
              { id: 'series', label: 'Series' },
            ]}
            onChange={(id) => setUnit(id as typeof unit)}
          />
        )}
      </div>
      {fragments.length === 0 && <p className="muted">No shard was asked: the expression needs no data.</p>}
      {fragments.map((fragment, i) => (
        <FragmentCard key={i} fragment={fragment} unit={unit} />
      ))}
    </div>
  );
}

function PlanRow({ node, fragments }: { node: PlanNode; fragments: Map<string, FragmentTrace> }) {
  const trace = fragments.get(node.expression);
  const sum = (pick: (s: FragmentTrace['shards'][number]) => number): number =>
    trace?.shards.reduce((n, s) => n + pick(s), 0) ?? 0;
  return (
    <li>
      <div className="plan-row">
        <code dir="auto">{node.expression}</code>
        <span className="plan-place">{node.place}</span>
        {node.once && <span className="plan-place">once for all steps</span>}
        {trace && (
          <span className="plan-numbers tab-num">
            {formatCount(sum((s) => s.series))} series → {formatCount(sum((s) => s.rows))} rows ·{' '}
            {formatCount(sum((s) => s.samples))} samples · {formatValue(trace.seconds, 's')}
          </span>
        )}
      </div>
      {node.parts.length > 0 && (
        <ul>
          {node.parts.map((part, i) => (
            <PlanRow key={i} node={part} fragments={fragments} />
          ))}
        </ul>
      )}
    </li>
  );
}

function FragmentCard({ fragment, unit }: { fragment: FragmentTrace; unit: 'seconds' | 'samples' | 'series' }) {
  const most = Math.max(...fragment.shards.map((s) => s[unit]), Number.MIN_VALUE);
  const show = (value: number): string => (unit === 'seconds' ? formatValue(value, 's') : formatCount(value));
  return (
    <div className="fragment">
      <div className="plan-row">
        <code dir="auto">{fragment.expression}</code>
        <span className="plan-place">{fragment.place}</span>
        <span className="plan-numbers tab-num">
          {formatCount(fragment.steps)} steps · all shards answered after {formatValue(fragment.seconds, 's')}
        </span>
      </div>
      <div className="shard-bars" role="img" aria-label={`${unit} by shard, at most ${show(most)}`}>
        {fragment.shards.map((shard) => (
          <div
            key={shard.shard}
            className="shard-bar"
            title={`shard ${shard.shard}: ${formatCount(shard.series)} series, ${formatCount(shard.samples)} samples, ${formatCount(shard.rows)} rows, ${formatBytes(shard.bytes)}, ${formatValue(shard.seconds, 's')}`}
          >
            <span style={{ height: `${Math.max(2, (shard[unit] / most) * 100)}%` }} />
            <small>{shard.shard}</small>
          </div>
        ))}
      </div>
    </div>
  );
}
