// The screens there are, in the order of the rail.

import {
  Activity,
  DatabaseZap,
  House,
  LayoutDashboard,
  Network,
  ScrollText,
  Search,
  Settings2,
  Sigma,
} from 'lucide-react';
import type { Icon } from '../components/ui';

export interface Screen {
  to: '/' | '/explore' | '/browse' | '/logs' | '/sql' | '/cardinality' | '/dashboards' | '/cluster' | '/admin';
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
  { to: '/sql', label: 'SQL', icon: DatabaseZap, key: 's', what: 'Notebook of statements over everything there is' },
  { to: '/dashboards', label: 'Dashboards', icon: LayoutDashboard, key: 'd', what: 'Yours, built-in ones, and import' },
  { to: '/cardinality', label: 'Cardinality', icon: Sigma, key: 'c', what: 'Which metrics and labels make series' },
  { to: '/cluster', label: 'Cluster', icon: Network, key: 'n', what: 'Nodes, shards, leaders and lag, live' },
  { to: '/admin', label: 'Admin', icon: Settings2, key: 'a', what: 'Running queries, settings, this node' },
];
