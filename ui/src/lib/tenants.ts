// Tenants by what names them. The server keeps no list: a tenant is there once somebody writes for it.

import type { ActiveQuery, SlowQuery } from '../api/status';

export interface KnownTenant {
  name: string;
  /** Where its name is from. */
  from: string[];
  features: string;
}

export const isTenant = (name: string): boolean => /^[A-Za-z0-9._-]{1,64}$/.test(name);

export function knownTenants(sources: {
  current: string | undefined;
  met: string[];
  flags: Record<string, string>;
  queries: Pick<ActiveQuery | SlowQuery, 'tenant'>[];
}): KnownTenant[] {
  const found = new Map<string, KnownTenant>();
  const add = (name: string | undefined, from: string): void => {
    if (name === undefined || !isTenant(name)) return;
    const known = found.get(name) ?? { name, from: [], features: '' };
    if (!known.from.includes(from)) known.from.push(from);
    found.set(name, known);
  };
  add('default', 'who names none');
  add(sources.current, 'shown now');
  add(sources.flags['telemetry.self_monitoring_tenant'], 'this cluster’s own metrics');
  if (Object.keys(sources.flags).some((key) => key.startsWith('syslog.listen') && sources.flags[key] !== ''))
    add(sources.flags['syslog.tenant'], 'syslog');
  for (const [key, value] of Object.entries(sources.flags)) {
    const setting = /^tenants\.(.+)\.([a-z_]+)$/.exec(key);
    if (!setting) continue;
    add(setting[1], 'settings');
    if (setting[2] === 'features') found.get(setting[1]!)!.features = value;
  }
  for (const { tenant } of sources.queries) add(tenant, 'queries of this node');
  for (const name of sources.met) add(name, 'named here');
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}
