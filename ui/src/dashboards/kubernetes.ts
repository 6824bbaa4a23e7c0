import { bars, dashboard, figure, good, lines, variable } from './build';

const NS = 'namespace=~"$namespace"';

export default dashboard(
  'Kubernetes basics',
  'Workloads by kube-state-metrics and cAdvisor.',
  [
    {
      height: 4,
      panels: [
        figure('Nodes ready', 'none', 'sum(kube_node_status_condition{condition="Ready", status="true"})', {
          colourBy: 'none',
        }),
        figure('Pods running', 'none', `sum(kube_pod_status_phase{phase="Running", ${NS}})`, { colourBy: 'none' }),
        figure(
          'Pods that wait or failed',
          'none',
          `sum(kube_pod_status_phase{phase=~"Pending|Failed|Unknown", ${NS}})`,
          good(1),
        ),
        figure(
          'Restarts in an hour',
          'none',
          `sum(increase(kube_pod_container_status_restarts_total{${NS}}[1h]))`,
          good(1),
        ),
        figure(
          'Deployments not whole',
          'none',
          `count((kube_deployment_spec_replicas{${NS}} - kube_deployment_status_replicas_available{${NS}}) > 0) or vector(0)`,
          good(1),
        ),
      ],
    },
    'Processor and memory',
    {
      height: 10,
      panels: [
        lines(
          'Processor by namespace',
          'short',
          [
            [
              `sum by (namespace) (rate(container_cpu_usage_seconds_total{container!="", ${NS}}[$__rate_interval]))`,
              '{{namespace}}',
            ],
          ],
          { stack: 'normal' },
          'Cores in use.',
        ),
        lines(
          'Memory by namespace',
          'bytes',
          [[`sum by (namespace) (container_memory_working_set_bytes{container!="", ${NS}})`, '{{namespace}}']],
          { stack: 'normal' },
        ),
      ],
    },
    {
      height: 10,
      panels: [
        bars('Processor used of requested', 'percentunit', [
          [
            `sort_desc(sum by (namespace) (rate(container_cpu_usage_seconds_total{container!="", ${NS}}[$__range])) / sum by (namespace) (kube_pod_container_resource_requests{resource="cpu", ${NS}}))`,
            '{{namespace}}',
          ],
        ]),
        bars('Memory used of requested', 'percentunit', [
          [
            `sort_desc(sum by (namespace) (container_memory_working_set_bytes{container!="", ${NS}}) / sum by (namespace) (kube_pod_container_resource_requests{resource="memory", ${NS}}))`,
            '{{namespace}}',
          ],
        ]),
        lines('Held back by its limit', 'percentunit', [
          [
            `topk(8, sum by (namespace, pod) (rate(container_cpu_cfs_throttled_periods_total{${NS}}[$__rate_interval])) / sum by (namespace, pod) (rate(container_cpu_cfs_periods_total{${NS}}[$__rate_interval])))`,
            '{{namespace}}/{{pod}}',
          ],
        ]),
      ],
    },
    'Trouble',
    {
      height: 10,
      panels: [
        lines(
          'Restarts',
          'none',
          [
            [
              `topk(8, sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total{${NS}}[$__rate_interval])) > 0)`,
              '{{namespace}}/{{pod}}',
            ],
          ],
          { draw: 'bars' },
        ),
        bars('Containers that wait, by reason', 'none', [
          [`sort_desc(sum by (reason) (kube_pod_container_status_waiting_reason{${NS}}) > 0)`, '{{reason}}'],
        ]),
        bars('Ended, by reason', 'none', [
          [`sort_desc(sum by (reason) (kube_pod_container_status_last_terminated_reason{${NS}}) > 0)`, '{{reason}}'],
        ]),
      ],
    },
    'Network and volumes',
    {
      height: 10,
      panels: [
        lines('Received by namespace', 'binBps', [
          [
            `sum by (namespace) (rate(container_network_receive_bytes_total{${NS}}[$__rate_interval]))`,
            '{{namespace}}',
          ],
        ]),
        lines('Sent by namespace', 'binBps', [
          [
            `sum by (namespace) (rate(container_network_transmit_bytes_total{${NS}}[$__rate_interval]))`,
            '{{namespace}}',
          ],
        ]),
        bars(
          'Volumes used',
          'percentunit',
          [
            [
              `topk(12, kubelet_volume_stats_used_bytes{${NS}} / kubelet_volume_stats_capacity_bytes{${NS}})`,
              '{{namespace}}/{{persistentvolumeclaim}}',
            ],
          ],
          { min: 0, max: 1 },
        ),
      ],
    },
  ],
  [variable('namespace', 'label_values(kube_pod_info, namespace)', 'Namespace')],
);
