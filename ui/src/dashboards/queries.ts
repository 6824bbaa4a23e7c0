import { bars, dashboard, figure, good, heat, lines } from './build';

export default dashboard('Queries', 'How this cluster answers.', [
  {
    height: 4,
    panels: [
      figure('Queries', 'reqps', 'sum(rate(pharos_query_duration_seconds_count[$__rate_interval]))', {
        colourBy: 'none',
      }),
      figure(
        'Half take less than',
        's',
        'histogram_quantile(0.5, sum by (le) (rate(pharos_query_duration_seconds_bucket[$__rate_interval])))',
        { colourBy: 'none' },
      ),
      figure(
        '99 % take less than',
        's',
        'histogram_quantile(0.99, sum by (le) (rate(pharos_query_duration_seconds_bucket[$__rate_interval])))',
        { colourBy: 'none' },
      ),
      figure('Running', 'none', 'sum(pharos_queries_running)', { colourBy: 'none' }),
      figure(
        'Refused for lack of a place',
        'reqps',
        'sum(rate(pharos_queries_refused_total[$__rate_interval]))',
        good(0.001),
      ),
    ],
  },
  {
    height: 10,
    panels: [
      heat('Time of a query', 's', 'sum by (le) (increase(pharos_query_duration_seconds_bucket[$__rate_interval]))'),
      lines(
        'Queries by node',
        'reqps',
        [['sum by (instance) (rate(pharos_query_duration_seconds_count[$__rate_interval]))', '{{instance}}']],
        { stack: 'normal' },
      ),
      lines(
        'Fragments run for queries',
        'ops',
        [['sum by (instance) (rate(pharos_query_fragments_total[$__rate_interval]))', '{{instance}}']],
        { stack: 'normal' },
        'Each query asks every shard for its parts.',
      ),
    ],
  },
  'HTTP',
  {
    height: 10,
    panels: [
      lines('Requests by route', 'reqps', [
        ['topk(8, sum by (route) (rate(pharos_http_requests_total[$__rate_interval])))', '{{route}}'],
      ]),
      lines(
        'Answers that are errors, by code',
        'reqps',
        [['sum by (code) (rate(pharos_http_requests_total{code=~"[45].."}[$__rate_interval]))', '{{code}}']],
        { stack: 'normal', draw: 'bars' },
      ),
      lines('Requests in work', 'none', [['pharos_http_requests_in_flight', '{{instance}}']]),
    ],
  },
  {
    height: 10,
    panels: [
      bars("95 % of a route's answers within", 's', [
        [
          'sort_desc(histogram_quantile(0.95, sum by (le, route) (rate(pharos_http_request_duration_seconds_bucket[$__range]))) > 0)',
          '{{route}}',
        ],
      ]),
      bars('Requests by route in this range', 'short', [
        ['sort_desc(sum by (route) (increase(pharos_http_requests_total[$__range])) > 0)', '{{route}}'],
      ]),
    ],
  },
]);
