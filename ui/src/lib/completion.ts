// What the editor completes from. Names are searched by the server with a cap: a store has more metrics than a page
// should ever load.

import type { PrometheusClient } from '@prometheus-io/codemirror-promql/dist/esm/client/prometheus';
import type { Matcher } from '@prometheus-io/codemirror-promql/dist/esm/types';
import { EqlRegex, Neq, NeqRegex } from '@prometheus-io/lezer-promql';
import * as api from '../api/prometheus';
import { escapeRegex, labelName, quote } from './labels';

const CAP = 200;

/** Fails quietly: a completion that can not be had is none, and the query itself will say what is wrong. */
async function quiet<T>(promise: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await promise;
  } catch {
    return otherwise;
  }
}

function selector(
  metric: string | undefined,
  matchers: Matcher[] | undefined,
  except: string | undefined,
): string[] | undefined {
  const parts = (matchers ?? [])
    .filter((m) => m.name !== except && !m.matchesEmpty())
    .map((m) => `${labelName(m.name)}${operator(m)}${quote(m.value)}`);
  if (metric) parts.unshift(`__name__=${quote(metric)}`);
  return parts.length > 0 ? [`{${parts.join(',')}}`] : undefined;
}

const operator = (m: Matcher): string =>
  m.type === Neq ? '!=' : m.type === EqlRegex ? '=~' : m.type === NeqRegex ? '!~' : '=';

export function completionClient(): PrometheusClient {
  return {
    metricNames: async (prefix = '') => {
      const match = prefix === '' ? undefined : [`{__name__=~${quote(`${escapeRegex(prefix)}.*`)}}`];
      const names = await quiet(
        api.labelValues('__name__', { match, limit: CAP }).then((a) => a.data),
        [],
      );
      if (names.length >= 20 || prefix.length < 3) return names;
      // Few begin so: those that contain it may be meant.
      const inside = [`{__name__=~${quote(`.*${escapeRegex(prefix)}.*`)}}`];
      const more = await quiet(
        api.labelValues('__name__', { match: inside, limit: CAP }).then((a) => a.data),
        [],
      );
      return [...new Set([...names, ...more])];
    },
    labelNames: (metric) =>
      quiet(
        api.labelNames({ match: selector(metric, undefined, undefined), limit: CAP }).then((a) => a.data),
        [],
      ),
    labelValues: (label, metric, matchers) =>
      quiet(
        api.labelValues(label, { match: selector(metric, matchers, label), limit: CAP }).then((a) => a.data),
        [],
      ),
    metricMetadata: () =>
      quiet(
        api.metadata().then((a) => a.data),
        {},
      ),
    series: () => Promise.resolve([]),
    flags: () => Promise.resolve({}),
  };
}
