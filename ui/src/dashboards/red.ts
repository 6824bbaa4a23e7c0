import { bars, dashboard, figure, heat, lines, rising, variable } from './build';

const OF = 'job=~"$service"';
const COUNT = 'http_server_request_duration_seconds_count';
const BUCKET = 'http_server_request_duration_seconds_bucket';

export default dashboard(
  'OpenTelemetry service (RED)',
  "Rate, errors and duration of HTTP servers. The metric is OpenTelemetry's http.server.request.duration, as Prometheus names it.",
  [
    {
      height: 4,
      panels: [
        figure('Requests', 'reqps', `sum(rate(${COUNT}{${OF}}[$__rate_interval]))`, { colourBy: 'none' }),
        figure(
          'That fail',
          'percentunit',
          `sum(rate(${COUNT}{${OF}, http_response_status_code=~"5.."}[$__rate_interval])) / sum(rate(${COUNT}{${OF}}[$__rate_interval])) or vector(0)`,
          rising(0.01, 0.05),
        ),
        figure(
          'Half take less than',
          's',
          `histogram_quantile(0.5, sum by (le) (rate(${BUCKET}{${OF}}[$__rate_interval])))`,
          { colourBy: 'none' },
        ),
        figure(
          '95 % take less than',
          's',
          `histogram_quantile(0.95, sum by (le) (rate(${BUCKET}{${OF}}[$__rate_interval])))`,
          { colourBy: 'none' },
        ),
        figure('In work', 'none', `sum(http_server_active_requests{${OF}})`, { colourBy: 'none' }),
      ],
    },
    {
      height: 10,
      panels: [
        lines('Rate by service', 'reqps', [[`sum by (job) (rate(${COUNT}{${OF}}[$__rate_interval]))`, '{{job}}']], {
          stack: 'normal',
        }),
        lines(
          'Errors by service',
          'percentunit',
          [
            [
              `sum by (job) (rate(${COUNT}{${OF}, http_response_status_code=~"5.."}[$__rate_interval])) / sum by (job) (rate(${COUNT}{${OF}}[$__rate_interval]))`,
              '{{job}}',
            ],
          ],
          { min: 0 },
        ),
        lines('Duration by service, 95 %', 's', [
          [`histogram_quantile(0.95, sum by (le, job) (rate(${BUCKET}{${OF}}[$__rate_interval])))`, '{{job}}'],
        ]),
      ],
    },
    {
      height: 10,
      panels: [
        heat('Duration of requests', 's', `sum by (le) (increase(${BUCKET}{${OF}}[$__rate_interval]))`),
        bars('Slowest routes, 95 %', 's', [
          [
            `topk(12, histogram_quantile(0.95, sum by (le, http_route) (rate(${BUCKET}{${OF}}[$__range]))))`,
            '{{http_route}}',
          ],
        ]),
        bars('Busiest routes', 'reqps', [
          [
            `topk(12, sum by (http_request_method, http_route) (rate(${COUNT}{${OF}}[$__range])))`,
            '{{http_request_method}} {{http_route}}',
          ],
        ]),
      ],
    },
    'Calls to others',
    {
      height: 10,
      panels: [
        lines('Calls by target', 'reqps', [
          [
            `sum by (server_address) (rate(http_client_request_duration_seconds_count{${OF}}[$__rate_interval]))`,
            '{{server_address}}',
          ],
        ]),
        lines('Duration by target, 95 %', 's', [
          [
            `histogram_quantile(0.95, sum by (le, server_address) (rate(http_client_request_duration_seconds_bucket{${OF}}[$__rate_interval])))`,
            '{{server_address}}',
          ],
        ]),
        lines(
          'Status codes',
          'reqps',
          [
            [
              `sum by (http_response_status_code) (rate(${COUNT}{${OF}}[$__rate_interval]))`,
              '{{http_response_status_code}}',
            ],
          ],
          { stack: 'normal' },
        ),
      ],
    },
  ],
  [variable('service', `label_values(${COUNT}, job)`, 'Service')],
);
