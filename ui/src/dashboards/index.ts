// The dashboards that come with the server. They are read-only; a copy of one is anybody's own.

import type { Dashboard } from '../lib/dashboard/model';

export interface Builtin {
  uid: string;
  title: string;
  what: string;
  /** Asked in the tenant where this cluster writes its own metrics. */
  system: boolean;
  load: () => Promise<Dashboard>;
}

export const BUILTIN: Builtin[] = [
  {
    uid: 'pharos-cluster',
    title: 'Cluster health',
    what: 'Leaders, lag, clocks, memory and disk of the nodes of this cluster',
    system: true,
    load: async () => (await import('./cluster')).default,
  },
  {
    uid: 'pharos-ingest',
    title: 'Ingest',
    what: 'What arrives, what is refused and why, and how long it takes to be durable',
    system: true,
    load: async () => (await import('./ingest')).default,
  },
  {
    uid: 'pharos-queries',
    title: 'Queries',
    what: 'How many, how long, and how the HTTP surface fares',
    system: true,
    load: async () => (await import('./queries')).default,
  },
  {
    uid: 'pharos-host',
    title: 'Host (node_exporter)',
    what: 'Processor, memory, disks and network of a machine',
    system: false,
    load: async () => (await import('./host')).default,
  },
  {
    uid: 'pharos-kubernetes',
    title: 'Kubernetes basics',
    what: 'Pods, restarts, requests and limits by namespace, from kube-state-metrics and cAdvisor',
    system: false,
    load: async () => (await import('./kubernetes')).default,
  },
  {
    uid: 'pharos-red',
    title: 'OpenTelemetry service (RED)',
    what: "Rate, errors and duration of HTTP servers, by OpenTelemetry's conventions",
    system: false,
    load: async () => (await import('./red')).default,
  },
];
