// SQL: one statement, its answer as a table; and what there is to ask about.

import { type Answer, ask, askFile } from './client';

export type SqlValue = string | number | bigint | boolean | null | SqlValue[] | { [key: string]: SqlValue };

export interface SqlTable {
  columns: { name: string; type: string }[];
  rows: SqlValue[][];
}

/** Leaving stops it on the server, too. */
export const runSql = (query: string, signal?: AbortSignal): Promise<Answer<SqlTable>> =>
  ask('/api/v1/sql', { query }, { signal, post: true, exact: true });

/** The answer as an Arrow IPC stream. */
export const arrowOf = (query: string, signal?: AbortSignal): Promise<Blob> =>
  askFile('/api/v1/sql', { query, format: 'arrow' }, signal);

export interface TableName {
  schema: string;
  name: string;
}

/** Every metric is a table of the schema `public`; the schema `metric` has them once more. */
export async function sqlTables(signal?: AbortSignal): Promise<TableName[]> {
  const answer = await runSql(
    `SELECT table_schema, table_name FROM information_schema.tables
     WHERE table_schema NOT IN ('information_schema', 'metric') ORDER BY table_schema, table_name`,
    signal,
  );
  return answer.data.rows.map(([schema, name]) => ({ schema: String(schema), name: String(name) }));
}

export async function sqlColumns(table: string, signal?: AbortSignal): Promise<{ name: string; type: string }[]> {
  const answer = await runSql(`DESCRIBE ${table}`, signal);
  return answer.data.rows.map(([name, type]) => ({ name: String(name), type: shortType(String(type)) }));
}

/** The server's names of types are long. */
export function shortType(type: string): string {
  const known: [RegExp, string][] = [
    [/^Utf8|^LargeUtf8/, 'text'],
    [/^Timestamp/, 'timestamp'],
    [/^Float/, 'double'],
    [/^U?Int/, 'bigint'],
    [/^Bool/, 'boolean'],
    [/^Map/, 'map'],
    [/^(Large)?List/, 'list'],
    [/^Struct/, 'struct'],
  ];
  return known.find(([pattern]) => pattern.test(type))?.[1] ?? type.toLowerCase();
}
