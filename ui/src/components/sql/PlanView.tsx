// Plans as trees: each step with what it was given, what it gave and how long it took; what the shards did below it.

import { longest, type PlanStep, planSeconds } from '../../lib/sqlplan';
import { formatCount, formatValue } from '../../lib/units';

const TITLES: Record<string, string> = {
  'Plan with Metrics': 'What was done',
  logical_plan: 'Logical plan',
  physical_plan: 'Physical plan',
};

export default function PlanView({ plans }: { plans: { title: string; roots: PlanStep[] }[] }) {
  return (
    <div className="explain" data-testid="sql-plan">
      {plans.map(({ title, roots }) => (
        <section key={title}>
          <h3>{TITLES[title] ?? title}</h3>
          <ul className="plan">
            {roots.map((step, i) => (
              <Step key={i} step={step} most={longest(roots)} />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

function Step({ step, most }: { step: PlanStep; most: number }) {
  const { metrics } = step;
  const seconds = planSeconds(metrics.elapsed_compute);
  const others = Object.entries(metrics).filter(
    ([name, value]) => !['output_rows', 'elapsed_compute'].includes(name) && !/^0(\.0 B)?$/.test(value),
  );
  const slowest = Math.max(...step.shards.map((s) => s.seconds), Number.MIN_VALUE);
  return (
    <li>
      <div className="plan-row" title={others.map(([name, value]) => `${name} ${value}`).join('\n')}>
        <b>{step.name}</b>
        <code dir="auto" className="sql-details">
          {step.details.length > 600 ? `${step.details.slice(0, 600)}…` : step.details}
        </code>
        {metrics.output_rows !== undefined && (
          <span className="plan-numbers tab-num">
            {formatCount(Number(metrics.output_rows))} rows · {formatValue(seconds, 's')}
            <span className="sql-time" aria-hidden>
              <span style={{ width: `${most > 0 ? (seconds / most) * 100 : 0}%` }} />
            </span>
          </span>
        )}
      </div>
      {step.shards.length > 0 && (
        <>
          <p className="muted small">
            {step.shards.length} shards: {formatCount(step.shards.reduce((n, s) => n + s.samples, 0))} samples read,{' '}
            {formatCount(step.shards.reduce((n, s) => n + s.rows, 0))} rows sent; the slowest took{' '}
            {formatValue(slowest, 's')}
          </p>
          <div className="shard-bars" role="img" aria-label={`Time by shard, at most ${formatValue(slowest, 's')}`}>
            {step.shards.map((s) => (
              <div key={s.shard} className="shard-bar" title={`shard ${s.shard}: ${s.text}`}>
                <span style={{ height: `${Math.max(2, (s.seconds / slowest) * 100)}%` }} />
                <small>{s.shard}</small>
              </div>
            ))}
          </div>
        </>
      )}
      {step.parts.length > 0 && (
        <ul>
          {step.parts.map((part, i) => (
            <Step key={i} step={part} most={most} />
          ))}
        </ul>
      )}
    </li>
  );
}
