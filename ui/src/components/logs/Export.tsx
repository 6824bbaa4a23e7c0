// Records as a file: those that are selected or pinned, or all that the search finds, up to a bound that is said.

import { Download } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { type LogQuestion, type LogRow, searchLogs } from '../../api/logs';
import { FORMS, type Form, fileOf, MOST_EXPORTED } from '../../lib/logexport';
import { saveAs } from '../../lib/save';
import { formatBytes, formatCount } from '../../lib/units';
import { Dialog } from '../floating';
import { ErrorBox } from '../states';
import { Button, Segmented } from '../ui';

/** Records of one request. */
const PIECE = 2000;

type Which = 'selected' | 'pinned' | 'here' | 'all';
type State =
  | { at: 'choice' }
  | { at: 'work'; loaded: number }
  | { at: 'done'; records: number; bytes: number; isCut: boolean }
  | { at: 'failed'; error: unknown };

export default function Export({
  question,
  total,
  here,
  selected,
  pinned,
  columns,
  onClose,
}: {
  /** What the search is; none while lines come live. */
  question: LogQuestion | null;
  total: number | null;
  /** Lines of the live tail. */
  here: LogRow[];
  selected: LogRow[];
  pinned: LogRow[];
  columns: string[];
  onClose: () => void;
}) {
  const [which, setWhich] = useState<Which>(
    selected.length > 0 ? 'selected' : question ? 'all' : here.length > 0 ? 'here' : 'pinned',
  );
  const [form, setForm] = useState<Form>('text');
  const [state, setState] = useState<State>({ at: 'choice' });
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);

  const save = async () => {
    const control = new AbortController();
    stop.current = control;
    try {
      let rows = which === 'selected' ? selected : which === 'here' ? here : pinned;
      let isCut = false;
      if (which === 'all' && question) {
        rows = [];
        let cursor: string | undefined;
        do {
          setState({ at: 'work', loaded: rows.length });
          const limit = Math.min(PIECE, MOST_EXPORTED - rows.length);
          const answer = await searchLogs(question, { limit, cursor }, control.signal);
          rows = rows.concat(answer.data.rows);
          cursor = answer.data.cursor ?? undefined;
        } while (cursor !== undefined && rows.length < MOST_EXPORTED);
        isCut = cursor !== undefined;
      }
      const text = fileOf(rows, form, columns);
      const { ending, type } = FORMS[form];
      saveAs(`logs-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.${ending}`, text, type);
      setState({ at: 'done', records: rows.length, bytes: new Blob([text]).size, isCut });
    } catch (error) {
      if (control.signal.aborted) setState({ at: 'choice' });
      else setState({ at: 'failed', error });
    }
  };

  const choices = [
    ...(selected.length > 0 ? [{ id: 'selected', label: `Selected, ${formatCount(selected.length)}` }] : []),
    ...(pinned.length > 0 ? [{ id: 'pinned', label: `Pinned, ${formatCount(pinned.length)}` }] : []),
    ...(here.length > 0 ? [{ id: 'here', label: `All that is here, ${formatCount(here.length)}` }] : []),
    ...(question ? [{ id: 'all', label: `All that is found${total === null ? '' : `, ${formatCount(total)}`}` }] : []),
  ];
  const isWorking = state.at === 'work';
  return (
    <Dialog open onClose={onClose} title="Save records as a file" width={480}>
      {choices.length === 0 ? (
        <p>There is nothing to save: select or pin lines first.</p>
      ) : (
        <div className="log-export">
          <Segmented label="Which" value={which} choices={choices} onChange={(id) => setWhich(id as Which)} />
          <Segmented
            label="Form"
            value={form}
            choices={Object.entries(FORMS).map(([id, { label }]) => ({ id, label }))}
            onChange={(id) => setForm(id as Form)}
          />
          <p className="muted small">
            {form === 'text'
              ? `A line each: time, level, ${columns.length > 0 ? `${columns.join(', ')}, ` : ''}body; without colours, line breaks as \\n.`
              : form === 'jsonl'
                ? 'A JSON object a line, with all that the record holds.'
                : `Columns: time, level, ${columns.length > 0 ? columns.join(', ') : 'service.name, trace_id'}, body. Columns that the list shows come along.`}
          </p>
          {which === 'all' && total !== null && total > MOST_EXPORTED && (
            <p className="warn small">
              ▲ A file holds at most {formatCount(MOST_EXPORTED)} records: the newest of {formatCount(total)}.{' '}
              <code>pharos logs query</code> writes more.
            </p>
          )}
        </div>
      )}
      <div role="status">
        {state.at === 'done' && (
          <p>
            Saved {formatCount(state.records)} records, {formatBytes(state.bytes)}.{' '}
            {state.isCut && <span className="warn">▲ There are more: these are the newest.</span>}
          </p>
        )}
        {isWorking && (
          <p className="tab-num">
            {formatCount(state.loaded)}
            {total === null ? '' : ` of ${formatCount(Math.min(total, MOST_EXPORTED))}`} loaded…
          </p>
        )}
      </div>
      {state.at === 'failed' && <ErrorBox error={state.error} />}
      <div className="dialog-actions">
        <Button onClick={onClose}>Close</Button>
        {isWorking ? (
          <Button onClick={() => stop.current?.abort()}>Stop</Button>
        ) : (
          <Button look="primary" icon={Download} disabled={choices.length === 0} onClick={() => void save()}>
            Save
          </Button>
        )}
      </div>
    </Dialog>
  );
}
