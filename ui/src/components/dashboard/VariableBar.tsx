// The choices above a dashboard. They live in the address and nowhere else.

import { ChevronDown } from 'lucide-react';
import { lazy, Suspense, useState } from 'react';
import { ALL, type Chosen, MAX_VALUES } from '../../lib/dashboard/variables';
import type { Range } from '../../lib/time';
import type { VariableState } from '../../state/variables';
import { Popover } from '../floating';
import { Input, Select } from '../ui';

const FilterControl = lazy(async () => ({ default: (await import('./FilterControl')).FilterControl }));

export function VariableBar({
  state,
  range,
  onChange,
}: {
  state: VariableState;
  range: Range;
  onChange: (name: string, values: string[]) => void;
}) {
  const shown = state.chosen.filter((c) => !c.variable.hidden && c.variable.kind !== 'constant');
  if (shown.length === 0) return null;
  return (
    <div className="variable-bar" data-testid="variables">
      {shown.map((chosen) => (
        <VariableControl
          key={chosen.variable.name}
          chosen={chosen}
          range={range}
          error={state.errors.get(chosen.variable.name)}
          onChange={(values) => onChange(chosen.variable.name, values)}
        />
      ))}
    </div>
  );
}

function VariableControl({
  chosen,
  range,
  error,
  onChange,
}: {
  chosen: Chosen;
  range: Range;
  error: Error | undefined;
  onChange: (values: string[]) => void;
}) {
  const { variable, values, options } = chosen;
  const name = variable.label || variable.name;
  if (variable.kind === 'filters')
    return (
      <Suspense fallback={<span className="variable muted">{name}</span>}>
        <FilterControl name={name} value={values[0] ?? ''} range={range} onChange={(text) => onChange([text])} />
      </Suspense>
    );
  if (variable.kind === 'text')
    return <TextControl name={name} value={values[0] ?? ''} onChange={(v) => onChange([v])} />;
  if (!variable.multi && options.length <= 200) {
    const known =
      values[0] !== undefined && values[0] !== ALL && !options.includes(values[0]) ? [values[0], ...options] : options;
    return (
      <label className="variable" title={error?.message}>
        <span className={error ? 'critical' : 'muted'}>{name}</span>
        <Select value={values[0] ?? ''} onChange={(e) => onChange([e.target.value])}>
          {variable.all && <option value={ALL}>All</option>}
          {known.length === 0 && <option value="">{error ? 'failed' : 'no values'}</option>}
          {known.map((option) => (
            <option key={option} value={option}>
              {option.slice(0, 120)}
            </option>
          ))}
        </Select>
      </label>
    );
  }
  return <MultiControl name={name} chosen={chosen} error={error} onChange={onChange} />;
}

function TextControl({ name, value, onChange }: { name: string; value: string; onChange: (value: string) => void }) {
  const [text, setText] = useState(value);
  return (
    <label className="variable">
      <span className="muted">{name}</span>
      <Input
        value={text}
        onChange={(e) => setText(e.target.value)}
        onBlur={() => onChange(text)}
        onKeyDown={(e) => e.key === 'Enter' && onChange(text)}
      />
    </label>
  );
}

function MultiControl({
  name,
  chosen,
  error,
  onChange,
}: {
  name: string;
  chosen: Chosen;
  error: Error | undefined;
  onChange: (values: string[]) => void;
}) {
  const { variable, values, options } = chosen;
  const [find, setFind] = useState('');
  const all = values.includes(ALL);
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = options.filter((o) => words.every((w) => o.toLowerCase().includes(w)));
  const said = error
    ? 'failed'
    : all
      ? 'All'
      : values.length === 0
        ? 'none'
        : values.length <= 2
          ? values.join(', ')
          : `${values.length} of ${options.length}`;
  const toggle = (value: string) => {
    if (!variable.multi) return onChange([value]);
    const now = all ? [] : values;
    const next = now.includes(value) ? now.filter((v) => v !== value) : [...now, value];
    onChange(next.length === 0 && variable.all ? [ALL] : next);
  };
  return (
    <span className="variable" title={error?.message}>
      <span className={error ? 'critical' : 'muted'}>{name}</span>
      <Popover
        label={name}
        align="start"
        trigger={
          <button type="button" className="btn btn-plain" aria-label={`${name}: ${said}`}>
            <bdi className="variable-value">{said}</bdi>
            <ChevronDown size={13} aria-hidden />
          </button>
        }
      >
        <div className="variable-list">
          {options.length > 8 && (
            <Input
              placeholder={`Find in ${options.length}`}
              aria-label={`Find a value of ${name}`}
              value={find}
              onChange={(e) => setFind(e.target.value)}
            />
          )}
          <ul>
            {variable.all && (
              <li>
                <label className="check">
                  <input type="checkbox" checked={all} onChange={() => onChange([ALL])} />
                  <b>All</b>
                </label>
              </li>
            )}
            {found.slice(0, 200).map((option) => (
              <li key={option}>
                <label className="check">
                  <input
                    type="checkbox"
                    checked={all ? false : values.includes(option)}
                    onChange={() => toggle(option)}
                  />
                  <bdi>{option.slice(0, 200)}</bdi>
                </label>
              </li>
            ))}
          </ul>
          {found.length > 200 && <p className="cap-note small">200 of {found.length}; type to find others</p>}
          {options.length >= MAX_VALUES && <p className="cap-note small">the first {MAX_VALUES} values</p>}
          {options.length === 0 && <p className="muted small">no values in this range</p>}
        </div>
      </Popover>
    </span>
  );
}
