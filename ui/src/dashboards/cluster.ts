import { bars, dashboard, figure, good, lines, rising } from './build';

export default dashboard('Cluster health', 'The nodes of this cluster, by their own metrics.', [
  {
    height: 4,
    panels: [
      figure('Nodes ready', 'none', 'sum(pharos_node_ready)', { colourBy: 'none' }),
      figure(
        'Shards without a leader',
        'none',
        'count(sum by (shard) (pharos_shard_leader) == 0) or vector(0)',
        good(1),
      ),
      figure('Entries not applied, at most', 'short', 'max(pharos_shard_lag_entries)', rising(100, 10_000)),
      figure('Clocks apart, at most', 'ms', 'max(abs(pharos_clock_offset_milliseconds))', rising(100, 1000)),
      figure(
        'Memory used of budget',
        'percentunit',
        'max(sum by (instance) (pharos_memory_used_bytes) / on (instance) pharos_memory_budget_bytes)',
        rising(0.8, 0.95),
      ),
      figure('Peers not reachable', 'none', 'count(pharos_peer_reachable == 0) or vector(0)', good(1)),
    ],
  },
  'Shards',
  {
    height: 9,
    panels: [
      lines(
        'Leaderships by node',
        'none',
        [['sum by (instance) (pharos_shard_leader)', '{{instance}}']],
        { stack: 'normal', stepped: true },
        'Steady lines are good: each step is a leader that changed.',
      ),
      lines('Entries applied, by node', 'ops', [
        ['sum by (instance) (rate(pharos_shard_applied_index[$__rate_interval]))', '{{instance}}'],
      ]),
      lines('Entries in the log that are not applied', 'short', [
        ['sum by (instance) (pharos_shard_lag_entries)', '{{instance}}'],
      ]),
    ],
  },
  {
    height: 9,
    panels: [
      lines(
        'Changes of leader',
        'none',
        [['sum(changes(pharos_shard_term[$__rate_interval])) / count(pharos_node_ready)', 'terms begun']],
        { draw: 'bars' },
        'Each election begins a term.',
      ),
      bars('Series by shard', 'short', [['max by (shard) (pharos_shard_series)', 'shard {{shard}}']]),
      lines('Series in the registries', 'short', [['sum by (instance) (pharos_shard_series)', '{{instance}}']]),
    ],
  },
  'Machines',
  {
    height: 9,
    panels: [
      lines(
        'Processor',
        'short',
        [['sum by (instance) (rate(process_cpu_seconds_total{job="pharos"}[$__rate_interval]))', '{{instance}}']],
        {},
        'Cores in use by the process.',
      ),
      lines('Memory of the process', 'bytes', [['process_resident_memory_bytes{job="pharos"}', '{{instance}}']]),
      lines('Memory by what for', 'bytes', [['sum by (use) (pharos_memory_used_bytes)', '{{use}}']], {
        stack: 'normal',
      }),
    ],
  },
  {
    height: 9,
    panels: [
      lines('Segments on disk', 'bytes', [['sum by (instance) (pharos_shard_segment_bytes)', '{{instance}}']]),
      lines('Log on disk', 'bytes', [['pharos_log_disk_bytes', '{{instance}}']]),
      lines('Open files', 'none', [['process_open_fds{job="pharos"}', '{{instance}}']]),
    ],
  },
  'Between nodes',
  {
    height: 9,
    panels: [
      lines('Sent to peers', 'binBps', [
        ['sum by (instance) (rate(pharos_peer_sent_bytes_total[$__rate_interval]))', '{{instance}}'],
      ]),
      lines('Connections that ended or did not come about', 'ops', [
        ['sum by (instance) (rate(pharos_peer_dropped_connections_total[$__rate_interval]))', '{{instance}} ended'],
        ['sum by (instance) (rate(pharos_peer_failed_dials_total[$__rate_interval]))', '{{instance}} failed'],
      ]),
      lines(
        'Steps that wait',
        'none',
        [['sum by (pool) (pharos_step_queue_length)', '{{pool}}']],
        {},
        'Work for the threads of flushes, merges and applying.',
      ),
    ],
  },
]);
