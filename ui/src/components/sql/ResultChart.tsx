// Rows with a time, drawn.

import { useState } from 'react';
import type { SqlChart } from '../../lib/sqltable';
import { Chart } from '../Chart';
import { Legend } from '../Legend';

export default function ResultChart({ chart, utc, label }: { chart: SqlChart; utc: boolean; label: string }) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [emphasised, setEmphasised] = useState<string | null>(null);
  return (
    <>
      {chart.series > chart.frame.series.length && (
        <p className="cap-note">
          {chart.frame.series.length} of {chart.series} series are drawn.
        </p>
      )}
      <Chart
        frame={chart.frame}
        range={{ from: chart.from, to: chart.to }}
        utc={utc}
        height={300}
        unit={chart.unit}
        draw={chart.sparse ? 'points' : 'line'}
        hidden={hidden}
        emphasised={emphasised}
        label={label}
      />
      <Legend frame={chart.frame} unit={chart.unit} hidden={hidden} onHidden={setHidden} onEmphasise={setEmphasised} />
    </>
  );
}
