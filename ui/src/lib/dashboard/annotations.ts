// Annotations: what a query found becomes marks, and marks become lines and regions of a plot. As in Grafana, steps that
// follow each other are one region, and a step by itself is a line.

import type { LogRow, LogValue } from '../../api/logs';
import type { MatrixSeries } from '../../api/prometheus';
import { parseValue } from '../frame';
import { legendText } from '../labels';
import { fieldOf, lineOf, millisOf, textOf, visible } from '../logrow';
import type { Range } from '../time';
import type { Annotation } from './model';

/** Most marks of an annotation that are drawn: the newest. */
export const MAX_MARKS = 500;
/** Of a text, or of a value, as much as a tooltip can show. */
const LONGEST = 300;

export interface Mark {
  from: number;
  /** The same for a moment. */
  to: number;
  /** It is so at an end of what was looked at, so that it may have begun earlier, or last longer. */
  openStart?: boolean;
  openEnd?: boolean;
  text: string;
  labels: [string, string][];
}

export interface Marks {
  marks: Mark[];
  /** All that there are; null where only so much is known that there are more. */
  total: number | null;
}

/** A name that no annotation has. */
export function freeName(wanted: string, taken: { name: string }[]): string {
  let name = wanted;
  for (let i = 2; taken.some((a) => a.name === name); i++) name = `${wanted} ${i}`;
  return name;
}

const short = (text: string): string => visible(text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

function described(annotation: Annotation, labels: Record<string, string>, otherwise = ''): Omit<Mark, 'from' | 'to'> {
  const { __name__: _, ...rest } = labels;
  const told = annotation.labels ? annotation.labels.filter((name) => labels[name] !== undefined) : Object.keys(rest);
  return {
    // A line break of the template is one; those of values are shown as signs.
    text: annotation.text
      ? annotation.text
          .split('\n')
          .map((t) => short(legendText(t, labels)))
          .join('\n')
      : otherwise,
    labels: told.map((name) => [short(name), short(labels[name]!)]),
  };
}

/** The newest of them, in their order. */
function newest(marks: Mark[]): Marks {
  const sorted = marks.sort((a, b) => a.from - b.from || a.to - b.to);
  return { marks: sorted.slice(-MAX_MARKS), total: marks.length };
}

/** Where series are other than zero: each run of steps is a mark. */
export function marksOfSeries(series: MatrixSeries[], annotation: Annotation, span: Range, step: number): Marks {
  const marks: Mark[] = [];
  const seen = new Set<number>();
  for (const { metric, values } of series) {
    const about = described(annotation, metric);
    let open: Mark | null = null;
    for (const [seconds, text] of values ?? []) {
      const time = seconds * 1000;
      const value = parseValue(text);
      if (value === 0 || Number.isNaN(value)) continue;
      if (annotation.valueAsTime) {
        const at = Math.floor(value);
        if (at >= span.from && at <= span.to && !seen.has(at)) marks.push({ from: at, to: at, ...about });
        seen.add(at);
      } else if (open && time - open.to < step * 1.5) {
        open.to = time;
      } else {
        open = { from: time, to: time, ...about };
        if (time - span.from < step) open.openStart = true;
        marks.push(open);
      }
    }
    if (open && span.to - open.to < step) open.openEnd = true;
  }
  return newest(marks);
}

/** Each record is a mark. */
export function marksOfRecords(rows: LogRow[], more: boolean, annotation: Annotation): Marks {
  const marks = rows.map((row): Mark => {
    const time = millisOf(row);
    const fields: Record<string, string> = {};
    const put = (name: string, value: LogValue | undefined) => {
      if (value !== undefined && value !== null) fields[name] = textOf(value);
    };
    put('level', row.level);
    for (const part of [row.resource, row.attributes])
      for (const name of Object.keys(part ?? {})) put(name, part?.[name]);
    put('trace_id', row.traceId);
    const named = [...(annotation.labels ?? []), ...templateNames(annotation.text)];
    const known = { ...fields };
    for (const name of named) {
      const value = fieldOf(row, name);
      if (value !== undefined && value !== null) known[name] = textOf(value);
    }
    const about = described(annotation, known, short(lineOf(row, false)));
    // Without a choice, what a template asked for besides is not told twice.
    if (!annotation.labels) about.labels = described({ ...annotation, text: undefined }, fields).labels;
    return { from: time, to: time, ...about };
  });
  return { ...newest(marks), ...(more ? { total: null } : {}) };
}

const templateNames = (text = ''): string[] => [...text.matchAll(/\{\{\s*([^}]+?)\s*\}\}/g)].map((m) => m[1]!);

export interface LokiStream {
  stream: Record<string, string>;
  values: [string, string, ...unknown[]][];
}

/** Each line is a mark; as many lines as were asked for may be fewer than there are. */
export function marksOfStreams(streams: LokiStream[], annotation: Annotation): Marks {
  const marks = streams.flatMap(({ stream, values }) =>
    values.map(([nanos, line]): Mark => {
      const time = Number(BigInt(nanos) / 1_000_000n);
      return { from: time, to: time, ...described(annotation, stream, short(line)) };
    }),
  );
  const { marks: shown, total } = newest(marks);
  return { marks: shown, total: total !== null && total >= MAX_MARKS ? null : total };
}

/** How many there are, as it is said beside a name. */
export const countText = ({ marks, total }: Marks): string =>
  total === null
    ? `newest ${marks.length}`
    : total > marks.length
      ? `newest ${marks.length} of ${total}`
      : String(total);

export interface Group {
  from: number;
  to: number;
  marks: Mark[];
}

/** Marks as they are drawn: those that lie over each other, or nearer than `least`, together. */
export function grouped(marks: Mark[], range: Range, least: number): Group[] {
  const out: Group[] = [];
  for (const mark of marks) {
    if (mark.to < range.from || mark.from > range.to) continue;
    const [from, to] = [Math.max(mark.from, range.from), Math.min(mark.to, range.to)];
    const last = out.at(-1);
    if (last && (from <= last.to || from - last.from < least)) {
      last.marks.push(mark);
      last.to = Math.max(last.to, to);
    } else out.push({ from, to, marks: [mark] });
  }
  // What is too narrow to be seen as a region is a line.
  return out.map((group) => (group.to - group.from < least ? { ...group, to: group.from } : group));
}

/** What marks say, each once: the first that says it, and how many do. */
export function sayings(marks: Mark[]): { mark: Mark; count: number }[] {
  const out = new Map<string, { mark: Mark; count: number }>();
  for (const mark of marks) {
    const key = mark.text || JSON.stringify(mark.labels);
    const known = out.get(key);
    if (known) known.count += 1;
    else out.set(key, { mark, count: 1 });
  }
  return [...out.values()];
}

/** Whether it is drawn: what the address says of it, else the document. */
export function isOn(annotation: Annotation, asked: string[] | undefined): boolean {
  if (asked?.includes(`+${annotation.name}`)) return true;
  if (asked?.includes(`-${annotation.name}`)) return false;
  return annotation.off !== true;
}

/** What the address says after a switch is pressed: only what is other than the document says. */
export function switched(annotation: Annotation, asked: string[] | undefined): string[] | undefined {
  const rest = (asked ?? []).filter((a) => a.slice(1) !== annotation.name);
  const on = !isOn(annotation, asked);
  if (on === (annotation.off === true)) rest.push(`${on ? '+' : '-'}${annotation.name}`);
  return rest.length > 0 ? rest : undefined;
}
