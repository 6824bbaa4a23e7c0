// Stored dashboards. A save names the version it changes: who saves second is told, and overwrites nobody.

import type { Dashboard } from '../lib/dashboard/model';
import { type Answer, ask, tell } from './client';

export interface DashboardRow {
  uid: string;
  title: string;
  folder: string;
  tags: string[];
  version: number;
  updated: number;
  bytes: number;
}

export interface StoredDashboard extends DashboardRow {
  message: string;
  dashboard: Dashboard;
}

export interface VersionRow {
  version: number;
  updated: number;
  message: string;
  bytes: number;
}

const path = (uid: string): string => `/api/v1/dashboards/${encodeURIComponent(uid)}`;

export const listDashboards = (signal?: AbortSignal): Promise<Answer<DashboardRow[]>> =>
  ask('/api/v1/dashboards', {}, { signal });
export const getDashboard = (uid: string, signal?: AbortSignal): Promise<Answer<StoredDashboard>> =>
  ask(path(uid), {}, { signal });
export const listVersions = (uid: string, signal?: AbortSignal): Promise<Answer<VersionRow[]>> =>
  ask(`${path(uid)}/versions`, {}, { signal });
export const getVersion = (uid: string, version: number, signal?: AbortSignal): Promise<Answer<StoredDashboard>> =>
  ask(`${path(uid)}/versions/${version}`, {}, { signal });
/** Stores a version; `expected` is the one it was made from, 0 for a new dashboard. */
export const saveDashboard = (
  uid: string,
  expected: number,
  dashboard: Dashboard,
  message: string,
): Promise<{ uid: string; version: number }> => tell('PUT', path(uid), { expected, message, dashboard });
export const deleteDashboard = (uid: string, expected: number): Promise<unknown> =>
  tell('DELETE', `${path(uid)}?expected=${expected}`);
