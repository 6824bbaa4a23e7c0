// Settings of a dashboard: what it is called, its range, its variables, its annotations.

import { ArrowDown, ArrowUp, Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import type { Dashboard, Variable } from '../../lib/dashboard/model';
import { QUICK_RANGES } from '../../lib/time';
import { REFRESH_CHOICES } from '../../state/clock';
import type { VariableState } from '../../state/variables';
import { Dialog } from '../floating';
import { Button, Field, IconButton, Input, Select } from '../ui';
import { AnnotationSettings } from './AnnotationSettings';
import { EntryHead } from './EntryHead';
import { LinkEditor } from './LinkEditor';

export default function DashboardSettings({
  dashboard,
  state,
  onChange,
  onClose,
}: {
  dashboard: Dashboard;
  state: VariableState;
  onChange: (dashboard: Dashboard) => void;
  onClose: () => void;
}) {
  const [open, setOpen] = useState<number | null>(null);
  const set = (part: Partial<Dashboard>) => onChange({ ...dashboard, ...part });
  const variables = dashboard.variables;
  const change = (i: number, part: Partial<Variable>) =>
    set({ variables: variables.map((v, j) => (j === i ? { ...v, ...part } : v)) });
  const move = (i: number, by: number) => {
    const next = [...variables];
    const [taken] = next.splice(i, 1);
    next.splice(i + by, 0, taken!);
    set({ variables: next });
    setOpen(i + by);
  };
  return (
    <Dialog open onClose={onClose} title="Settings, variables, annotations, links" width={720}>
      <div className="two-fields">
        <Field label="Title">
          <Input value={dashboard.title} onChange={(e) => set({ title: e.target.value })} />
        </Field>
        <Field label="Tags">
          <Input
            value={dashboard.tags.join(', ')}
            placeholder="with commas between"
            onChange={(e) =>
              set({
                tags: e.target.value
                  .split(',')
                  .map((t) => t.trim())
                  .filter(Boolean),
              })
            }
          />
        </Field>
        <Field label="Range when it is opened">
          <Select value={dashboard.time.from} onChange={(e) => set({ time: { from: e.target.value, to: 'now' } })}>
            {[...new Set([...QUICK_RANGES.filter((q) => q.to === 'now').map((q) => q.from), dashboard.time.from])].map(
              (from) => (
                <option key={from} value={from}>
                  {QUICK_RANGES.find((q) => q.from === from && q.to === 'now')?.label ?? from}
                </option>
              ),
            )}
          </Select>
        </Field>
        <Field label="Refreshes by itself">
          <Select value={dashboard.refresh} onChange={(e) => set({ refresh: e.target.value })}>
            {[...new Set([...REFRESH_CHOICES, dashboard.refresh])].map((r) => (
              <option key={r} value={r}>
                {r === 'off' ? 'never' : r}
              </option>
            ))}
          </Select>
        </Field>
      </div>
      <h3>Variables</h3>
      <p className="muted small">
        A query names one as <code>$name</code>. Several chosen values become a regular expression: write{' '}
        <code>label=~"$name"</code>.
      </p>
      {variables.map((variable, i) => (
        <div key={i} className="variable-editor">
          <EntryHead
            open={open === i}
            onToggle={() => setOpen(open === i ? null : i)}
            title={
              <>
                <code>${variable.name}</code> <span className="muted">{variable.kind}</span>
              </>
            }
            asked={variable.query}
          >
            <IconButton icon={ArrowUp} label="Earlier" disabled={i === 0} onClick={() => move(i, -1)} />
            <IconButton
              icon={ArrowDown}
              label="Later"
              disabled={i === variables.length - 1}
              onClick={() => move(i, 1)}
            />
            <IconButton
              icon={Trash2}
              label={`Remove ${variable.name}`}
              onClick={() => set({ variables: variables.filter((_, j) => j !== i) })}
            />
          </EntryHead>
          {open === i && (
            <div className="stack">
              <div className="two-fields">
                <Field label="Name">
                  <Input
                    value={variable.name}
                    aria-invalid={!/^\w+$/.test(variable.name)}
                    onChange={(e) => change(i, { name: e.target.value.replace(/\W/g, '') })}
                  />
                </Field>
                <Field label="Shown as">
                  <Input
                    value={variable.label ?? ''}
                    placeholder={variable.name}
                    onChange={(e) => change(i, { label: e.target.value || undefined })}
                  />
                </Field>
                <Field label="Kind">
                  <Select
                    value={variable.kind}
                    onChange={(e) => {
                      const kind = e.target.value as Variable['kind'];
                      // What fills other kinds is no matcher.
                      const plain = {
                        query: '',
                        multi: undefined,
                        all: undefined,
                        regex: undefined,
                        initial: undefined,
                      };
                      change(i, { kind, ...(kind === 'filters' ? plain : {}) });
                    }}
                  >
                    <option value="query">asked from the metrics</option>
                    <option value="custom">a list of values</option>
                    <option value="interval">a list of intervals</option>
                    <option value="text">a text</option>
                    <option value="constant">a constant</option>
                    <option value="filters">filters of all PromQL queries</option>
                  </Select>
                </Field>
                {variable.kind === 'query' && (
                  <Field label="Sorted">
                    <Select
                      value={variable.sort ?? 'none'}
                      onChange={(e) => change(i, { sort: e.target.value as Variable['sort'] })}
                    >
                      <option value="none">as they come</option>
                      <option value="asc">by name</option>
                      <option value="desc">by name, backwards</option>
                      <option value="numeric-asc">by number</option>
                      <option value="numeric-desc">by number, backwards</option>
                    </Select>
                  </Field>
                )}
              </div>
              <Field
                label={
                  variable.kind === 'query'
                    ? 'Asked'
                    : variable.kind === 'custom' || variable.kind === 'interval'
                      ? 'Values, with commas between'
                      : variable.kind === 'filters'
                        ? 'Filters when it is opened'
                        : 'Value'
                }
                hint={
                  variable.kind === 'query'
                    ? 'label_values(metric, label), label_names(), metrics(pattern), query_result(expression)'
                    : variable.kind === 'filters'
                      ? 'matchers with commas between, such as job="api", instance!~"test.*"; no query has to name them'
                      : undefined
                }
              >
                <Input
                  value={variable.query}
                  onChange={(e) => change(i, { query: e.target.value })}
                  spellCheck={false}
                />
              </Field>
              {variable.kind === 'query' && (
                <Field label="Only those that match (a group is the part that counts)">
                  <Input
                    value={variable.regex ?? ''}
                    placeholder="/(.*):9100/"
                    onChange={(e) => change(i, { regex: e.target.value || undefined })}
                    spellCheck={false}
                  />
                </Field>
              )}
              {(variable.kind === 'query' || variable.kind === 'custom') && (
                <div className="join-row">
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={variable.multi ?? false}
                      onChange={(e) => change(i, { multi: e.target.checked || undefined })}
                    />
                    several at once
                  </label>
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={variable.all ?? false}
                      onChange={(e) => change(i, { all: e.target.checked || undefined })}
                    />
                    the choice "All"
                  </label>
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={variable.hidden ?? false}
                      onChange={(e) => change(i, { hidden: e.target.checked || undefined })}
                    />
                    not shown
                  </label>
                </div>
              )}
              {state.errors.get(variable.name) && (
                <p className="critical small">■ {state.errors.get(variable.name)?.message}</p>
              )}
              {variable.kind !== 'filters' && (
                <Preview values={state.chosen.find((c) => c.variable.name === variable.name)?.options ?? []} />
              )}
            </div>
          )}
        </div>
      ))}
      <div className="dialog-actions">
        <Button
          icon={Plus}
          onClick={() => {
            const taken = new Set(variables.map((v) => v.name));
            let n = variables.length + 1;
            while (taken.has(`var${n}`)) n++;
            set({
              variables: [
                ...variables,
                { name: `var${n}`, kind: 'query', query: '', multi: true, all: true, sort: 'asc' },
              ],
            });
            setOpen(variables.length);
          }}
        >
          Add a variable
        </Button>
      </div>
      <AnnotationSettings dashboard={dashboard} onChange={onChange} />
      <h3>Links</h3>
      <LinkEditor
        links={dashboard.links}
        onChange={(links) => set({ links })}
        hint="of this server, or of the web; $name, $__from, $__url_time_range, $__all_variables"
        add="Add a link"
        tagged
      />
      <div className="dialog-actions">
        <Button look="primary" onClick={onClose}>
          Done
        </Button>
      </div>
    </Dialog>
  );
}

function Preview({ values }: { values: string[] }) {
  if (values.length === 0) return <p className="muted small">It has no values in this range.</p>;
  return (
    <p className="muted small">
      {values.length} values: <bdi>{values.slice(0, 12).join(', ')}</bdi>
      {values.length > 12 ? ', …' : ''}
    </p>
  );
}
