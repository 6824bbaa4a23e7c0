// The annotations of a dashboard, as its settings have them.

import { Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { freeName } from '../../lib/dashboard/annotations';
import { ANNOTATION_SOURCES, type Annotation, type AnnotationSource, type Dashboard } from '../../lib/dashboard/model';
import { Button, Field, IconButton, Input, Select } from '../ui';
import { EntryHead } from './EntryHead';
import { markColour } from './MarksOver';

const COLOURS = ['blue', 'green', 'yellow', 'orange', 'red', 'purple', 'gray'];

const HINTS: Record<AnnotationSource, string> = {
  promql: 'changes(process_start_time_seconds[2m]) > 0; steps that follow each other are one region',
  logs: 'event:deploy service.name:$service; a variable is put in as the search takes it, also of several values',
  logql: '{service_name="shop"} |= "deployed"',
};

export function AnnotationSettings({
  dashboard,
  onChange,
}: {
  dashboard: Dashboard;
  onChange: (dashboard: Dashboard) => void;
}) {
  const { annotations } = dashboard;
  const [open, setOpen] = useState<number | null>(null);
  const set = (next: Annotation[]) => onChange({ ...dashboard, annotations: next });
  const change = (i: number, part: Partial<Annotation>) =>
    set(annotations.map((a, j) => (j === i ? { ...a, ...part } : a)));
  return (
    <>
      <h3>Annotations</h3>
      <p className="muted small">What happened, marked on every time series. Queries may name variables.</p>
      {annotations.map((annotation, i) => (
        <div key={i} className="variable-editor">
          <EntryHead
            open={open === i}
            onToggle={() => setOpen(open === i ? null : i)}
            title={
              <>
                <span className="mark-key" style={{ background: markColour(annotation) }} aria-hidden />
                <bdi>{annotation.name}</bdi> <span className="muted">{annotation.source}</span>
              </>
            }
            asked={annotation.query}
          >
            <IconButton
              icon={Trash2}
              label={`Remove ${annotation.name}`}
              onClick={() => set(annotations.filter((_, j) => j !== i))}
            />
          </EntryHead>
          {open === i && (
            <div className="stack">
              <div className="two-fields">
                <Field label="Name">
                  <Input
                    value={annotation.name}
                    aria-invalid={annotations.some((a, j) => j !== i && a.name === annotation.name)}
                    onChange={(e) => change(i, { name: e.target.value.slice(0, 100) })}
                  />
                </Field>
                <Field label="Colour">
                  <Select value={annotation.colour ?? 'blue'} onChange={(e) => change(i, { colour: e.target.value })}>
                    {[...new Set([...COLOURS, annotation.colour ?? 'blue'])].map((colour) => (
                      <option key={colour} value={colour}>
                        {colour}
                      </option>
                    ))}
                  </Select>
                </Field>
                <Field label="Source">
                  <Select
                    value={annotation.source}
                    onChange={(e) => change(i, { source: e.target.value as AnnotationSource })}
                  >
                    {ANNOTATION_SOURCES.map((source) => (
                      <option key={source.id} value={source.id}>
                        {source.label}
                      </option>
                    ))}
                  </Select>
                </Field>
                {annotation.source !== 'logs' && (
                  <Field label="Least step">
                    <Input
                      value={annotation.step ?? ''}
                      placeholder="by the range"
                      onChange={(e) => change(i, { step: e.target.value || undefined })}
                    />
                  </Field>
                )}
              </div>
              <Field label="Asked" hint={HINTS[annotation.source]}>
                <Input
                  value={annotation.query}
                  onChange={(e) => change(i, { query: e.target.value })}
                  spellCheck={false}
                />
              </Field>
              <div className="two-fields">
                <Field label="Text">
                  <Input
                    value={annotation.text ?? ''}
                    placeholder={annotation.source === 'promql' ? 'of {{label}}' : 'the record; or of {{field}}'}
                    onChange={(e) => change(i, { text: e.target.value || undefined })}
                  />
                </Field>
                <Field label={annotation.source === 'logs' ? 'Fields that are told' : 'Labels that are told'}>
                  <LabelInput value={annotation.labels} onChange={(labels) => change(i, { labels })} />
                </Field>
              </div>
              <div className="join-row">
                <label className="check">
                  <input
                    type="checkbox"
                    checked={annotation.off !== true}
                    onChange={(e) => change(i, { off: !e.target.checked || undefined })}
                  />
                  on when it is opened
                </label>
                <label className="check">
                  <input
                    type="checkbox"
                    checked={annotation.hidden ?? false}
                    onChange={(e) => change(i, { hidden: e.target.checked || undefined })}
                  />
                  without a switch
                </label>
                {annotation.source === 'promql' && (
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={annotation.valueAsTime ?? false}
                      onChange={(e) => change(i, { valueAsTime: e.target.checked || undefined })}
                    />
                    values are moments, in milliseconds
                  </label>
                )}
              </div>
            </div>
          )}
        </div>
      ))}
      <div className="dialog-actions">
        <Button
          icon={Plus}
          onClick={() => {
            const name = freeName('Annotation', annotations);
            const colour = COLOURS[annotations.length % COLOURS.length]!;
            set([...annotations, { name, source: 'promql', query: '', colour }]);
            setOpen(annotations.length);
          }}
        >
          Add an annotation
        </Button>
      </div>
    </>
  );
}

/** Names with commas between; what is typed stays as it is while it is typed. */
function LabelInput({
  value,
  onChange,
}: {
  value: string[] | undefined;
  onChange: (labels: string[] | undefined) => void;
}) {
  const [text, setText] = useState(() => (value ?? []).join(', '));
  return (
    <Input
      value={text}
      placeholder="all; or with commas between"
      onChange={(e) => {
        setText(e.target.value);
        const names = e.target.value
          .split(',')
          .map((name) => name.trim())
          .filter(Boolean);
        onChange(names.length > 0 ? names : undefined);
      }}
    />
  );
}
