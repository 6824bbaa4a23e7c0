import { bars, dashboard, figure, lines, rising, variable } from './build';

const ON = '{job=~"$job", instance=~"$instance"}';
const on = (more: string): string => `{job=~"$job", instance=~"$instance", ${more}}`;

export default dashboard(
  'Host (node_exporter)',
  'Machines by node_exporter.',
  [
    {
      height: 4,
      panels: [
        figure('Up for', 's', `max(time() - node_boot_time_seconds${ON})`, { colourBy: 'none', sparkline: false }),
        figure(
          'Processor busy',
          'percentunit',
          `1 - avg(rate(node_cpu_seconds_total${on('mode="idle"')}[$__rate_interval]))`,
          rising(0.8, 0.95),
        ),
        figure(
          'Load by core',
          'short',
          `sum(node_load1${ON}) / count(node_cpu_seconds_total${on('mode="idle"')})`,
          rising(1, 2),
        ),
        figure(
          'Memory used',
          'percentunit',
          `1 - sum(node_memory_MemAvailable_bytes${ON}) / sum(node_memory_MemTotal_bytes${ON})`,
          rising(0.85, 0.95),
        ),
        figure(
          'Fullest disk',
          'percentunit',
          `max(1 - node_filesystem_avail_bytes${on('fstype!~"tmpfs|ramfs|overlay|squashfs"')} / node_filesystem_size_bytes${on('fstype!~"tmpfs|ramfs|overlay|squashfs"')})`,
          rising(0.8, 0.92),
        ),
        figure(
          'Stalled by memory',
          'percentunit',
          `max(rate(node_pressure_memory_stalled_seconds_total${ON}[$__rate_interval]))`,
          rising(0.05, 0.2),
        ),
      ],
    },
    'Processor and memory',
    {
      height: 10,
      panels: [
        lines(
          'Processor by mode',
          'percentunit',
          [[`avg by (mode) (rate(node_cpu_seconds_total${on('mode!="idle"')}[$__rate_interval]))`, '{{mode}}']],
          { stack: 'normal', max: 1, min: 0 },
        ),
        lines('Load', 'short', [
          [`sum by (instance) (node_load1${ON})`, '{{instance}} 1 min'],
          [`sum by (instance) (node_load15${ON})`, '{{instance}} 15 min'],
        ]),
        lines(
          'Memory',
          'bytes',
          [
            [`sum(node_memory_MemTotal_bytes${ON} - node_memory_MemAvailable_bytes${ON})`, 'in use'],
            [`sum(node_memory_Cached_bytes${ON} + node_memory_Buffers_bytes${ON})`, 'cache'],
            [`sum(node_memory_MemFree_bytes${ON})`, 'free'],
          ],
          { stack: 'normal' },
        ),
      ],
    },
    'Disks',
    {
      height: 10,
      panels: [
        lines('Read and written', 'binBps', [
          [`sum by (device) (rate(node_disk_read_bytes_total${ON}[$__rate_interval]))`, '{{device}} read'],
          [`sum by (device) (rate(node_disk_written_bytes_total${ON}[$__rate_interval]))`, '{{device}} written'],
        ]),
        lines(
          'Busy',
          'percentunit',
          [[`rate(node_disk_io_time_seconds_total${ON}[$__rate_interval])`, '{{instance}} {{device}}']],
          { min: 0 },
        ),
        bars(
          'Used of each file system',
          'percentunit',
          [
            [
              `sort_desc(1 - node_filesystem_avail_bytes${on('fstype!~"tmpfs|ramfs|overlay|squashfs"')} / node_filesystem_size_bytes${on('fstype!~"tmpfs|ramfs|overlay|squashfs"')})`,
              '{{instance}} {{mountpoint}}',
            ],
          ],
          { ...rising(0.8, 0.92), min: 0, max: 1 },
        ),
      ],
    },
    'Network',
    {
      height: 10,
      panels: [
        lines('Received', 'binBps', [
          [
            `sum by (instance, device) (rate(node_network_receive_bytes_total${on('device!~"lo|veth.*|br-.*"')}[$__rate_interval]))`,
            '{{instance}} {{device}}',
          ],
        ]),
        lines('Sent', 'binBps', [
          [
            `sum by (instance, device) (rate(node_network_transmit_bytes_total${on('device!~"lo|veth.*|br-.*"')}[$__rate_interval]))`,
            '{{instance}} {{device}}',
          ],
        ]),
        lines('Errors and drops', 'pps', [
          [
            `sum by (device) (rate(node_network_receive_errs_total${ON}[$__rate_interval]) + rate(node_network_receive_drop_total${ON}[$__rate_interval]))`,
            '{{device}} received',
          ],
          [
            `sum by (device) (rate(node_network_transmit_errs_total${ON}[$__rate_interval]) + rate(node_network_transmit_drop_total${ON}[$__rate_interval]))`,
            '{{device}} sent',
          ],
        ]),
      ],
    },
  ],
  [
    variable('job', 'label_values(node_uname_info, job)', 'Job'),
    variable('instance', 'label_values(node_uname_info{job=~"$job"}, instance)', 'Machine'),
  ],
);
