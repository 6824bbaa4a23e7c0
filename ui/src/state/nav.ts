// The screens there are, in the order of the rail.

import {
  Activity,
  ChartNoAxesGantt,
  DatabaseZap,
  House,
  LayoutDashboard,
  Network,
  ScrollText,
  Search,
  Settings2,
  Sigma,
  Waypoints,
} from 'lucide-react';
import type { Icon } from '../components/ui';

export interface Screen {
  to:
    | '/'
    | '/explore'
    | '/browse'
    | '/logs'
    | '/traces'
    | '/services'
    | '/sql'
    | '/cardinality'
    | '/dashboards'
    | '/cluster'
    | '/admin';
  /** Other addresses that belong to it. */
  also?: string;
  label: string;
  icon: Icon;
  key: string;
  what: string;
}

export const SCREENS: Screen[] = [
  { to: '/', label: 'Home', icon: House, key: 'h', what: 'State of the cluster and first steps' },
  { to: '/explore', label: 'Explore', icon: Activity, key: 'e', what: 'Ask in PromQL: chart, table, heatmap, plan' },
  { to: '/browse', label: 'Metrics', icon: Search, key: 'm', what: 'Look through what there is, without a query' },
  { to: '/logs', label: 'Logs', icon: ScrollText, key: 'l', what: 'Search, count, patterns and live tail' },
  {
    to: '/traces',
    also: '/trace/',
    label: 'Traces',
    icon: ChartNoAxesGantt,
    key: 't',
    what: 'Search spans by form or TraceQL, and what tells slow ones apart',
  },
  { to: '/services', label: 'Services', icon: Waypoints, key: 'v', what: 'Rate, errors, duration, and who calls whom' },
  { to: '/sql', label: 'SQL', icon: DatabaseZap, key: 's', what: 'Notebook of statements over everything there is' },
  { to: '/dashboards', label: 'Dashboards', icon: LayoutDashboard, key: 'd', what: 'Yours, built-in ones, and import' },
  { to: '/cardinality', label: 'Cardinality', icon: Sigma, key: 'c', what: 'Which metrics and labels make series' },
  { to: '/cluster', label: 'Cluster', icon: Network, key: 'n', what: 'Nodes, shards, leaders and lag, live' },
  { to: '/admin', label: 'Admin', icon: Settings2, key: 'a', what: 'Running queries, settings, this node' },
];
