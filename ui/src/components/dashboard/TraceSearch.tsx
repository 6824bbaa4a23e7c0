// A search of traces by form, put into a query of TraceQL.

import { useState } from 'react';
import type { Range } from '../../lib/time';
import type { TraceForm } from '../../lib/traceform';
import { conditions, withConditions } from '../../lib/traceql';
import { SearchForm, useServices } from '../traces/SearchForm';
import { Button } from '../ui';
import '../../style/traces.css';

export default function TraceSearch({
  query,
  range,
  onQuery,
}: {
  query: string;
  range: Range;
  onQuery: (query: string) => void;
}) {
  const [form, setForm] = useState<TraceForm>({});
  // Whole minutes: what is offered does not change with each look.
  const times = { from: Math.floor(range.from / 60_000) * 60_000, to: Math.ceil(range.to / 60_000) * 60_000 };
  const services = useServices(times);
  const asked = conditions(form);
  return (
    <div className="stack">
      <SearchForm
        form={form}
        range={times}
        services={(services.data?.data.services ?? []).map((one) => one.name)}
        onChange={(part) => setForm((old) => ({ ...old, ...part }))}
      />
      <div className="join-row">
        <Button
          disabled={asked.length === 0}
          onClick={() => {
            onQuery(withConditions(query, asked));
            setForm({});
          }}
        >
          Put into the query
        </Button>
        <code className="muted small">{asked.length === 0 ? '' : `{ ${asked.join(' && ')} }`}</code>
      </div>
    </div>
  );
}
