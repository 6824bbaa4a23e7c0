// What to ask about a metric when nobody has said: by its type, and where none is known, by its name.

import type { Metadata } from '../api/prometheus';
import { labelName, quote } from './labels';

export type MetricKind = 'counter' | 'gauge' | 'histogram' | 'summary' | 'unknown';

export interface Family {
  /** As queries name it; of a classic histogram the name without suffix. */
  name: string;
  kind: MetricKind;
  help: string;
  unit: string;
  /** A histogram whose buckets are series of their own. */
  classic: boolean;
}

const SUFFIXES = ['_bucket', '_count', '_sum', '_total', '_created', '_info'];

/** The families of a list of names: a histogram's three series are one family. */
export function families(names: string[], metadata: Record<string, Metadata[]>): Family[] {
  const known = new Set(names);
  const out: Family[] = [];
  const seen = new Set<string>();
  for (const name of names) {
    const suffix = SUFFIXES.find((s) => name.endsWith(s));
    const base = suffix ? name.slice(0, -suffix.length) : name;
    const own = metadata[name]?.[0] ?? (suffix ? metadata[base]?.[0] : undefined);
    const bucketed = known.has(`${base}_bucket`) && known.has(`${base}_count`);
    if (suffix && ['_bucket', '_count', '_sum'].includes(suffix) && bucketed) {
      if (!seen.has(base))
        out.push({ name: base, kind: 'histogram', help: own?.help ?? '', unit: own?.unit ?? '', classic: true });
      seen.add(base);
      continue;
    }
    if (seen.has(name)) continue;
    seen.add(name);
    out.push({ name, kind: kindOf(name, own?.type), help: own?.help ?? '', unit: own?.unit ?? '', classic: false });
  }
  return out;
}

function kindOf(name: string, type: string | undefined): MetricKind {
  if (type === 'counter' || type === 'gauge' || type === 'histogram' || type === 'summary') {
    // The sum and the count of a summary count up.
    return type === 'summary' && /_(sum|count)$/.test(name) ? 'counter' : type;
  }
  if (/_(total|count|sum)$/.test(name)) return 'counter';
  return 'unknown';
}

/** The unit of what [`defaultQuery`] gives. */
export function unitOf(family: Family): string {
  const text = `${family.unit} ${family.name}`;
  const perSecond = family.kind === 'counter';
  if (/bytes/.test(text)) return perSecond ? 'binBps' : 'bytes';
  if (/timestamp|start_time/.test(text)) return 'none';
  if (/milliseconds/.test(text)) return perSecond ? 'short' : 'ms';
  if (/seconds/.test(text)) return perSecond ? 'short' : 's';
  if (/ratio/.test(text)) return 'percentunit';
  return 'short';
}

/** The question of a family, and by which label. */
export function defaultQuery(
  family: Family,
  window: string,
  by: string[] = [],
  match: [string, string][] = [],
): string {
  const matchers = match.map(([key, value]) => `${labelName(key)}=${quote(value)}`).join(', ');
  const plain = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(family.name);
  const select = (suffix = ''): string => {
    if (!plain) return `{${[quote(family.name + suffix), matchers].filter(Boolean).join(', ')}}`;
    return `${family.name}${suffix}${matchers === '' ? '' : `{${matchers}}`}`;
  };
  const grouped = (extra: string[] = []): string => {
    const labels = [...extra, ...by].map(labelName);
    return labels.length === 0 ? '' : ` by (${labels.join(', ')})`;
  };
  switch (family.kind) {
    case 'counter':
      return `sum${grouped()} (rate(${select()}[${window}]))`;
    case 'histogram':
      return family.classic
        ? `histogram_quantile(0.95, sum${grouped(['le'])} (rate(${select('_bucket')}[${window}])))`
        : `histogram_quantile(0.95, sum${grouped()} (rate(${select()}[${window}])))`;
    default:
      return `avg${grouped()} (${select()})`;
  }
}
