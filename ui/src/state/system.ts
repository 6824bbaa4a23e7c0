// Where this cluster writes its own metrics: screens about the cluster ask there, whatever tenant is shown.

import { useQuery } from '@tanstack/react-query';
import { flags } from '../api/status';

export interface SystemMetrics {
  /** None while it is not known. */
  tenant: string | undefined;
  enabled: boolean;
  intervalText: string;
}

export function useSystemMetrics(): SystemMetrics {
  const answer = useQuery({ queryKey: ['flags'], queryFn: ({ signal }) => flags(signal), staleTime: 300_000 });
  const all = answer.data?.data;
  return {
    tenant: all?.['telemetry.self_monitoring_tenant'],
    enabled: all?.['telemetry.self_monitoring'] !== 'false',
    intervalText: all?.['telemetry.self_monitoring_interval'] ?? '15s',
  };
}
