// Plans of SQL, from the indented text that EXPLAIN gives to a tree: what each step is, what it was given, and after
// EXPLAIN ANALYZE, what it did, at the shards too.

import type { SqlTable } from '../api/sql';

export interface ShardWork {
  shard: string;
  rows: number;
  samples: number;
  series: number;
  seconds: number;
  text: string;
}

export interface PlanStep {
  name: string;
  details: string;
  metrics: Record<string, string>;
  shards: ShardWork[];
  parts: PlanStep[];
}

/** The answer of an EXPLAIN: a title and a tree for each plan; null for any other answer. */
export function plansOf(table: SqlTable): { title: string; roots: PlanStep[] }[] | null {
  const [type, plan] = table.columns;
  if (table.columns.length !== 2 || type?.name !== 'plan_type' || plan?.name !== 'plan') return null;
  return table.rows.map(([title, text]) => ({ title: String(title), roots: planOf(String(text)) }));
}

export function planOf(text: string): PlanStep[] {
  const roots: PlanStep[] = [];
  const open: { indent: number; step: PlanStep }[] = [];
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const indent = line.length - line.trimStart().length;
    while (open.length > 0 && open.at(-1)!.indent >= indent) open.pop();
    const step = stepOf(line.trim());
    (open.at(-1)?.step.parts ?? roots).push(step);
    open.push({ indent, step });
  }
  return roots;
}

function stepOf(line: string): PlanStep {
  const [, name, rest = ''] = /^([A-Za-z][\w ]*?)(?::\s*(.*))?$/.exec(line) ?? [];
  if (name === undefined) return { name: line, details: '', metrics: {}, shards: [], parts: [] };
  let details = rest;
  const metrics: Record<string, string> = {};
  const measured = /(?:, |^)metrics=\[([^\]]*)\]$/.exec(details);
  if (measured) {
    details = details.slice(0, measured.index);
    for (const part of measured[1]!.split(', ')) {
      const at = part.indexOf('=');
      if (at > 0) metrics[part.slice(0, at)] = part.slice(at + 1);
    }
  }
  const shards: ShardWork[] = [];
  const worked = /(?:, |^)shards=\[([^\]]*)\]/.exec(details);
  if (worked) {
    details = details.slice(0, worked.index) + details.slice(worked.index + worked[0].length);
    for (const part of worked[1]!.split(' | ')) {
      const [, shard, what] = /^(\d+): (.*)$/.exec(part) ?? [];
      if (shard === undefined || what === undefined) continue;
      const number = (pattern: RegExp): number => Number(pattern.exec(what)?.[1] ?? 0);
      shards.push({
        shard,
        rows: number(/sent (\d+) rows/),
        samples: number(/read (\d+) samples/),
        series: number(/of (\d+) series/),
        seconds: number(/([\d.]+) ms$/) / 1000,
        text: what,
      });
    }
  }
  return { name, details, metrics, shards, parts: [] };
}

const UNITS: Record<string, number> = { ns: 1e-9, µs: 1e-6, us: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 };

/** A time as plans write it, such as `87.16µs`; in seconds. */
export function planSeconds(text: string | undefined): number {
  const found = /^([\d.]+)(ns|µs|us|ms|s|m|h)$/.exec(text ?? '');
  return found ? Number(found[1]) * UNITS[found[2]!]! : 0;
}

/** The longest time that one step of a plan took by itself. */
export const longest = (steps: PlanStep[]): number =>
  Math.max(0, ...steps.map((s) => Math.max(planSeconds(s.metrics.elapsed_compute), longest(s.parts))));
