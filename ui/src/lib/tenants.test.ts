import { expect, it } from 'vitest';
import { knownTenants } from './tenants';

it('tenants are known by settings, queries and whoever named them', () => {
  const known = knownTenants({
    current: 'shop',
    met: ['shop', 'old', '<b>no</b>'],
    flags: {
      'telemetry.self_monitoring_tenant': '_system',
      'syslog.listen': '',
      'syslog.tenant': 'network',
      'tenants.team-a.features': 'all',
      'tenants.team.b.features': '[]',
      'query.timeout': '30s',
    },
    queries: [{ tenant: 'team-a' }, { tenant: 'guest' }],
  });
  expect(known.map((tenant) => [tenant.name, tenant.from.join('; '), tenant.features])).toEqual([
    ['_system', 'this cluster’s own metrics', ''],
    ['default', 'who names none', ''],
    ['guest', 'queries of this node', ''],
    ['old', 'named here', ''],
    ['shop', 'shown now; named here', ''],
    ['team-a', 'settings; queries of this node', 'all'],
    ['team.b', 'settings', '[]'],
  ]);
});
