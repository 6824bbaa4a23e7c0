// What a statement of SQL may say of its panel's time, as in Grafana: macros become conditions, moments and intervals.

import type { Range } from '../time';

const moment = (ms: number): string => `'${new Date(Math.round(ms)).toISOString()}'`;

/** The arguments of a call that begins behind its opening parenthesis; null where it does not end. */
function argumentsAt(text: string, from: number): { list: string[]; end: number } | null {
  const list: string[] = [];
  let depth = 0;
  let begin = from;
  for (let i = from; i < text.length; i++) {
    const c = text[i]!;
    if (c === "'" || c === '"') {
      const end = text.indexOf(c, i + 1);
      if (end < 0) return null;
      i = end;
    } else if (c === '(') depth++;
    else if (c === ')' && depth > 0) depth--;
    else if (c === ')' || (c === ',' && depth === 0)) {
      list.push(text.slice(begin, i).trim());
      begin = i + 1;
      if (c === ')') return { list: list.filter((part) => part !== ''), end: i + 1 };
    }
  }
  return null;
}

const MACRO =
  /\$__(timeFilter|timeFrom|timeTo|timeGroupAlias|timeGroup|unixEpochFilter|unixEpochFrom|unixEpochTo)\b(\s*\()?/g;

function written(name: string, args: string[], range: Range, step: number): string | null {
  const [column, interval] = args;
  const seconds = (ms: number): number => Math.floor(ms / 1000);
  switch (name) {
    case 'timeFrom':
      return moment(range.from);
    case 'timeTo':
      return moment(range.to);
    case 'unixEpochFrom':
      return String(seconds(range.from));
    case 'unixEpochTo':
      return String(seconds(range.to));
  }
  if (column === undefined) return null;
  switch (name) {
    case 'timeFilter':
      return `${column} BETWEEN ${moment(range.from)} AND ${moment(range.to)}`;
    case 'unixEpochFilter':
      return `${column} BETWEEN ${seconds(range.from)} AND ${seconds(range.to)}`;
    default: {
      const said = interval?.replace(/^'(.*)'$/, '$1') ?? '';
      const text =
        interval === undefined || /^\$(__interval|\{__interval\})$/.test(said)
          ? `${step} milliseconds`
          : postgresInterval(said);
      const bin = `date_bin(INTERVAL '${text}', ${column})`;
      return name === 'timeGroupAlias' ? `${bin} AS "time"` : bin;
    }
  }
}

const UNITS: Record<string, string> = {
  ms: 'milliseconds',
  s: 'seconds',
  m: 'minutes',
  h: 'hours',
  d: 'days',
  w: 'weeks',
};

/** `5m` in words: a letter alone may mean something else in an interval. */
const postgresInterval = (text: string): string =>
  text.replace(/(\d+)\s*(ms|[smhdw])(?![a-z])/gi, (_, n: string, unit: string) => `${n} ${UNITS[unit.toLowerCase()]}`);

/** A statement with its macros written out. What is no whole macro stays: the server says what is wrong with it. */
export function expandMacros(statement: string, range: Range, step: number): string {
  let out = '';
  let at = 0;
  for (const found of statement.matchAll(MACRO)) {
    if (found.index < at) continue;
    const open = found[2] !== undefined;
    const args = open ? argumentsAt(statement, found.index + found[0].length) : null;
    if (open && !args) continue;
    const text = written(found[1]!, args?.list ?? [], range, step);
    if (text === null) continue;
    out += statement.slice(at, found.index) + text;
    at = args?.end ?? found.index + found[0].length;
  }
  return out + statement.slice(at);
}
