// A table of SQL's kind, with typed columns: sorted by a click on its heads.

import { type ReactNode, useMemo } from 'react';
import type { SqlTable, SqlValue } from '../../api/sql';
import { cellText, isNumeric, sortKey } from '../../lib/sqltable';
import { formatMoment } from '../../lib/time';
import { type ColumnDef, DataTable } from '../DataTable';

/** Characters of a cell that are in the page; the rest is copied and exported. */
const SHOWN = 400;

export interface CellProps {
  value: SqlValue;
  type: string;
  zone: string;
  /** Of its column. */
  name: string;
  row: SqlValue[];
}

export function Cell({ value, type, zone }: CellProps) {
  if (value === null) return <span className="muted">NULL</span>;
  const text = cellText(value);
  if (type === 'timestamp') {
    const at = Date.parse(text);
    return (
      <span className="tab-num" title={text}>
        {Number.isNaN(at) ? text : formatMoment(at, zone, true)}
      </span>
    );
  }
  return (
    <bdi
      className={`mono ${isNumeric(type) ? 'tab-num' : ''}`}
      title={text.length > 24 ? text.slice(0, 2000) : undefined}
    >
      {text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text}
    </bdi>
  );
}

/** Wide enough for most of what stands in a column. */
function widthOf(table: SqlTable, at: number): string {
  const { name, type } = table.columns[at]!;
  let most = name.length + type.length / 2 + 3;
  for (const row of table.rows.slice(0, 200)) most = Math.max(most, cellText(row[at] ?? null).length);
  return `minmax(${Math.round(Math.min(Math.max(most * 7.4 + 20, 70), 420))}px, ${isNumeric(type) ? '0.4fr' : '1fr'})`;
}

export function Grid({
  table,
  zone,
  label,
  most = 420,
  cell = Cell,
}: {
  table: SqlTable;
  zone: string;
  label: string;
  /** Height at most. */
  most?: number;
  /** What draws a cell. */
  cell?: (of: CellProps) => ReactNode;
}) {
  const columns = useMemo<ColumnDef<SqlValue[]>[]>(
    () =>
      table.columns.map((column, i) => ({
        id: String(i),
        title: column.name,
        hint: column.type,
        width: widthOf(table, i),
        numeric: isNumeric(column.type),
        sort: (row) => sortKey(row[i] ?? null, column.type),
        cell: (row) => cell({ value: row[i] ?? null, type: column.type, zone, name: column.name, row }),
      })),
    [table, zone, cell],
  );
  return (
    <DataTable
      rows={table.rows}
      columns={columns}
      rowKey={(_, at) => at}
      height={Math.min(table.rows.length * 34 + 40, most)}
      label={label}
    />
  );
}
