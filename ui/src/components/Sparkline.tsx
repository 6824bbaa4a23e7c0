// The course of a number, small, behind it.

import { reduce } from '../lib/frame';

export function Sparkline({ values, colour }: { values: (number | null)[]; colour: string }) {
  const r = reduce(values);
  if (r.count < 2 || r.min === null || r.max === null) return null;
  const span = r.max - r.min || 1;
  const points = values
    .map((v, i) =>
      v === null || !Number.isFinite(v)
        ? null
        : ([(i / (values.length - 1)) * 100, 30 - ((v - r.min!) / span) * 26] as [number, number]),
    )
    .filter((p) => p !== null);
  if (points.length < 2) return null;
  const line = points.map(([x, y]) => `${x},${y}`).join(' ');
  return (
    <svg className="sparkline" viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true">
      <polyline
        points={`${points[0]![0]},32 ${line} ${points.at(-1)![0]},32`}
        fill={colour}
        fillOpacity="0.12"
        stroke="none"
      />
      <polyline points={line} fill="none" stroke={colour} strokeWidth="1.2" vectorEffect="non-scaling-stroke" />
    </svg>
  );
}
