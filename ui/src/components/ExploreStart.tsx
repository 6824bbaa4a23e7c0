// Where nothing has been asked yet: queries to begin with.

import { Sparkles } from 'lucide-react';
import { Empty } from './states';
import { Panel } from './ui';

const STARTERS = [
  { query: 'sum by (instance) (rate(process_cpu_seconds_total[1m]))', what: 'Processor time by node' },
  { query: 'process_resident_memory_bytes', what: 'Memory by node' },
  {
    query: 'histogram_quantile(0.95, sum by (le, route) (rate(pharos_http_request_duration_seconds_bucket[5m])))',
    what: '95th percentile of requests by route',
  },
  { query: 'sum by (le) (increase(pharos_log_sync_duration_seconds_bucket[1m]))', what: 'Syncs of the log: a heatmap' },
  { query: 'topk(10, count by (__name__) ({__name__!=""}))', what: 'Metrics with the most series' },
];

export default function ExploreStart({ onQuery }: { onQuery: (query: string) => void }) {
  return (
    <Panel>
      <Empty icon={Sparkles} title="Ask something">
        <p>Write PromQL above, or begin with one of these:</p>
        <ul className="starters">
          {STARTERS.map(({ query, what }) => (
            <li key={query}>
              <button type="button" onClick={() => onQuery(query)}>
                <span>{what}</span>
                <code>{query}</code>
              </button>
            </li>
          ))}
        </ul>
      </Empty>
    </Panel>
  );
}
