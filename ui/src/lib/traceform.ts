// The form of a search of traces, as an address has it. Small: every screen's addresses are checked with it.

export const KINDS = ['server', 'client', 'internal', 'producer', 'consumer'];
export const STATES = ['error', 'ok', 'unset'];

/** Units of durations, in nanoseconds. */
export const NS: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };

/** A duration such as `1.5s` or `1m30s` in nanoseconds, or null. */
export function parseNs(text: string): number | null {
  let rest = text.trim();
  if (rest === '') return null;
  let total = 0;
  while (rest !== '') {
    const part = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/.exec(rest);
    if (!part) return null;
    total += Number(part[1]) * NS[part[2]!]!;
    rest = rest.slice(part[0].length);
  }
  return Number.isFinite(total) ? total : null;
}

/** What the form of a search of traces asks. */
export interface TraceForm {
  q?: string;
  service?: string;
  operation?: string;
  kind?: string;
  status?: string;
  /** `key=value`. */
  tags?: string[];
  /** Only spans without a parent. */
  roots?: boolean;
  /** Of the span. */
  dmin?: string;
  dmax?: string;
  /** Of the trace. */
  min?: string;
  max?: string;
}
