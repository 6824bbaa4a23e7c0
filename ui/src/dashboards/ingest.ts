import { dashboard, figure, good, heat, lines } from './build';

export default dashboard('Ingest', 'What clients send to this cluster and what becomes of it.', [
  {
    height: 4,
    panels: [
      figure('Rows received', 'sps', 'sum(rate(pharos_ingest_rows_total[$__rate_interval]))', { colourBy: 'none' }),
      figure(
        'Rows refused',
        'sps',
        'sum(rate(pharos_ingest_rejected_rows_total[$__rate_interval])) or vector(0)',
        good(0.001),
      ),
      figure('Bytes received', 'binBps', 'sum(rate(pharos_ingest_bytes_total[$__rate_interval]))', {
        colourBy: 'none',
      }),
      figure(
        'Attempts again',
        'ops',
        'sum(rate(pharos_router_retries_total[$__rate_interval]))',
        { colourBy: 'none' },
        'Sub-batches sent to a leader once more: elections and overload show here.',
      ),
      figure('Series known to routers', 'short', 'sum(pharos_router_cached_series)', { colourBy: 'none' }),
    ],
  },
  {
    height: 10,
    panels: [
      lines(
        'Rows received',
        'sps',
        [['sum by (instance) (rate(pharos_ingest_rows_total[$__rate_interval]))', '{{instance}}']],
        { stack: 'normal' },
      ),
      lines(
        'Rows refused, by reason',
        'sps',
        [['sum by (reason) (rate(pharos_ingest_rejected_rows_total[$__rate_interval]))', '{{reason}}']],
        { stack: 'normal' },
      ),
    ],
  },
  {
    height: 10,
    panels: [
      lines(
        'Bodies as they came',
        'binBps',
        [['sum by (protocol) (rate(pharos_ingest_bytes_total[$__rate_interval]))', '{{protocol}}']],
        { stack: 'normal' },
      ),
      lines('Bytes of requests in work', 'bytes', [['pharos_ingest_in_flight_bytes', '{{instance}}']]),
      lines(
        "Series found in the routers' caches",
        'percentunit',
        [
          [
            'sum(rate(pharos_router_cache_hits_total[$__rate_interval])) / (sum(rate(pharos_router_cache_hits_total[$__rate_interval])) + sum(rate(pharos_router_cache_misses_total[$__rate_interval])))',
            'found',
          ],
        ],
        { min: 0, max: 1 },
      ),
    ],
  },
  'Durable',
  {
    height: 10,
    panels: [
      heat(
        'One write and sync of the log',
        's',
        'sum by (le) (increase(pharos_log_sync_duration_seconds_bucket[$__rate_interval]))',
        'A write is acknowledged after syncs on a majority: this is most of its time.',
      ),
      lines('Syncs', 'ops', [
        ['sum by (instance) (rate(pharos_log_sync_duration_seconds_count[$__rate_interval]))', '{{instance}}'],
      ]),
      lines('Time of a sync', 's', [
        [
          'histogram_quantile(0.5, sum by (le) (rate(pharos_log_sync_duration_seconds_bucket[$__rate_interval])))',
          'half',
        ],
        [
          'histogram_quantile(0.95, sum by (le) (rate(pharos_log_sync_duration_seconds_bucket[$__rate_interval])))',
          '95 %',
        ],
        [
          'histogram_quantile(0.99, sum by (le) (rate(pharos_log_sync_duration_seconds_bucket[$__rate_interval])))',
          '99 %',
        ],
      ]),
    ],
  },
  {
    height: 10,
    panels: [
      lines(
        'Records made durable by one sync',
        'short',
        [
          [
            'sum by (instance) (rate(pharos_log_batch_records_sum[$__rate_interval])) / sum by (instance) (rate(pharos_log_batch_records_count[$__rate_interval]))',
            '{{instance}}',
          ],
        ],
        {},
        'Many writers share a sync: the more at once, the more each sync carries.',
      ),
      lines('Time of a write request', 's', [
        [
          'histogram_quantile(0.5, sum by (le) (rate(pharos_http_request_duration_seconds_bucket{route="/api/v1/write"}[$__rate_interval])))',
          'half',
        ],
        [
          'histogram_quantile(0.99, sum by (le) (rate(pharos_http_request_duration_seconds_bucket{route="/api/v1/write"}[$__rate_interval])))',
          '99 %',
        ],
      ]),
      lines('Memtables', 'bytes', [['sum by (instance) (pharos_shard_memtable_bytes)', '{{instance}}']]),
    ],
  },
]);
