// An answer as a file: the rows that are shown as CSV and JSON; Arrow is written by the server, which is asked again.

import { Download } from 'lucide-react';
import { useState } from 'react';
import { arrowOf, type SqlTable } from '../../api/sql';
import { saveAs } from '../../lib/save';
import { csvOf, jsonRows } from '../../lib/sqltable';
import { Button } from '../ui';

export function Downloads({
  table,
  name,
  statement,
}: {
  table: () => SqlTable;
  name: string;
  /** What the server is asked for Arrow. */
  statement: string;
}) {
  const [state, setState] = useState<'asking' | Error | null>(null);
  const arrow = async () => {
    setState('asking');
    try {
      saveAs(`${name}.arrows`, await arrowOf(statement), 'application/vnd.apache.arrow.stream');
      setState(null);
    } catch (error) {
      setState(error as Error);
    }
  };
  return (
    <>
      {state instanceof Error && (
        <span className="critical small" role="alert">
          ■ {state.message}
        </span>
      )}
      <Button look="ghost" icon={Download} onClick={() => saveAs(`${name}.csv`, csvOf(table()), 'text/csv')}>
        CSV
      </Button>
      <Button look="ghost" onClick={() => saveAs(`${name}.json`, jsonRows(table()), 'application/json')}>
        JSON
      </Button>
      <Button
        look="ghost"
        title="An Arrow IPC stream with the server's types; it is asked once more for it"
        disabled={state === 'asking'}
        onClick={() => void arrow()}
      >
        Arrow
      </Button>
    </>
  );
}
