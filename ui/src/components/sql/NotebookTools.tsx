// What is done with a whole notebook: kept in this browser, taken out of it, as a file and from one.

import { BookMarked, FileDown, FileUp, Save, Trash2 } from 'lucide-react';
import { useRef, useState } from 'react';
import { notebookFile, readNotebook, type StoredCell } from '../../lib/notebook';
import { saveAs } from '../../lib/save';
import { formatMoment } from '../../lib/time';
import { type Notebook, useNotebooks } from '../../state/notebooks';
import { Popover } from '../floating';
import { Button, IconButton, Input } from '../ui';

/** A notebook has at most 30 cells of 20,000 characters. */
const LARGEST = 4_000_000;

export function NotebookTools({
  name,
  zone,
  cells,
  onOpen,
  onSaved,
}: {
  name: string | undefined;
  zone: string;
  /** As they would be kept now. */
  cells: () => StoredCell[];
  onOpen: (notebook: { name: string | undefined; cells: StoredCell[] }) => void;
  onSaved: (name: string) => void;
}) {
  const notebooks = useNotebooks();
  const [opened, setOpened] = useState(false);
  const [saving, setSaving] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const file = useRef<HTMLInputElement>(null);
  const isEmpty = cells().length === 0;
  const open = (notebook: Notebook) => {
    setOpened(false);
    onOpen(notebook);
  };
  const read = async (chosen: File | undefined) => {
    if (!chosen) return;
    try {
      if (chosen.size > LARGEST) throw new Error('The file is larger than any notebook.');
      onOpen(readNotebook(await chosen.text()));
      setWrong(null);
    } catch (error) {
      setWrong(`${chosen.name}: ${(error as Error).message}`);
    }
  };
  return (
    <>
      {wrong && (
        <span className="critical small" role="alert">
          ■ {wrong}
        </span>
      )}
      <Popover
        label="Notebooks of this browser"
        open={opened}
        onOpenChange={setOpened}
        trigger={
          <Button icon={BookMarked} disabled={notebooks.saved.length === 0}>
            Notebooks{notebooks.saved.length > 0 ? ` (${notebooks.saved.length})` : ''}
          </Button>
        }
      >
        <ul className="history-list">
          {notebooks.saved.map((notebook) => (
            <li key={notebook.name} className="sql-saved">
              <button type="button" onClick={() => open(notebook)}>
                <b>{notebook.name}</b>{' '}
                <span className="muted small">
                  {notebook.cells.length} cells, {formatMoment(notebook.at, zone)}
                </span>
              </button>
              <IconButton
                icon={Trash2}
                label={`Delete ${notebook.name}`}
                onClick={() => notebooks.remove(notebook.name)}
              />
            </li>
          ))}
        </ul>
      </Popover>
      <Popover
        label="Save in this browser"
        open={saving}
        onOpenChange={setSaving}
        trigger={
          <Button icon={Save} disabled={isEmpty}>
            Save
          </Button>
        }
      >
        <SaveForm
          name={name ?? ''}
          onSave={(chosen) => {
            setSaving(false);
            notebooks.save(chosen, cells());
            onSaved(chosen);
          }}
        />
      </Popover>
      <Button
        icon={FileDown}
        disabled={isEmpty}
        title="The notebook as a file, without its answers"
        onClick={() => saveAs(`${name ?? 'notebook'}.json`, notebookFile(name ?? '', cells()), 'application/json')}
      >
        Export
      </Button>
      <Button icon={FileUp} title="A notebook from a file" onClick={() => file.current?.click()}>
        Import
      </Button>
      <input
        ref={file}
        type="file"
        accept=".json,application/json"
        hidden
        aria-label="Notebook file"
        onChange={(event) => {
          void read(event.target.files?.[0]);
          // The same file once more is a change again.
          event.target.value = '';
        }}
      />
    </>
  );
}

function SaveForm({ name, onSave }: { name: string; onSave: (name: string) => void }) {
  const [text, setText] = useState(name);
  const valid = text.trim() !== '' && text.length <= 100;
  return (
    <form
      className="popover-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (valid) onSave(text.trim());
      }}
    >
      <label className="field">
        <span className="field-label">Name of the notebook</span>
        <Input value={text} onChange={(e) => setText(e.target.value)} autoFocus />
        <span className="field-hint">
          Kept in this browser; one of this name is replaced. To share it, share the link or the file.
        </span>
      </label>
      <Button look="primary" type="submit" disabled={!valid}>
        Save
      </Button>
    </form>
  );
}
