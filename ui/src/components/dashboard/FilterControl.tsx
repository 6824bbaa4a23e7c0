// The filters of a dashboard: matchers that join every query of PromQL, with labels and values by the server.

import { useQuery } from '@tanstack/react-query';
import { Plus, X } from 'lucide-react';
import { useId, useState } from 'react';
import { labelNames, labelValues } from '../../api/prometheus';
import {
  FILTER_OPERATORS,
  type Filter,
  type FilterOperator,
  filtersText,
  filterText,
  readFilters,
} from '../../lib/dashboard/filters';
import type { Range } from '../../lib/time';
import { currentTenant } from '../../state/prefs';
import { Popover } from '../floating';
import { Button, Field, Input, Select } from '../ui';

/** Names and values that a list offers; others are written. */
const OFFERED = 1000;

export function FilterControl({
  name,
  value,
  range,
  onChange,
}: {
  name: string;
  value: string;
  range: Range;
  onChange: (value: string) => void;
}) {
  const { filters, rest } = readFilters(value);
  const [open, setOpen] = useState<number | null>(null);
  const set = (next: Filter[]) => onChange(filtersText(next));
  return (
    <span className="variable filters" role="group" aria-label={name}>
      <span className="muted">{name}</span>
      {filters.map((filter, i) => (
        <span key={i} className="filter-chip">
          <Popover
            label={`Change ${filterText(filter)}`}
            align="start"
            open={open === i}
            onOpenChange={(next) => setOpen(next ? i : null)}
            trigger={
              <button type="button" className="mono" aria-label={`Change ${filterText(filter)}`}>
                <bdi>{filter.key.slice(0, 80)}</bdi>
                <span className="muted">{filter.op}</span>
                <bdi>{filter.value.slice(0, 80) || '""'}</bdi>
              </button>
            }
          >
            <FilterForm
              filter={filter}
              others={filters.filter((_, j) => j !== i)}
              range={range}
              onDone={(next) => {
                setOpen(null);
                set(filters.map((old, j) => (j === i ? next : old)));
              }}
            />
          </Popover>
          <button
            type="button"
            aria-label={`Remove ${filterText(filter)}`}
            onClick={() => set(filters.filter((_, j) => j !== i))}
          >
            <X size={12} aria-hidden />
          </button>
        </span>
      ))}
      {rest !== '' && (
        <span className="critical small" role="alert" title={rest}>
          ■ not a matcher, left out: <bdi>{rest.slice(0, 60)}</bdi>
        </span>
      )}
      <Popover
        label="Add a filter"
        align="start"
        open={open === -1}
        onOpenChange={(next) => setOpen(next ? -1 : null)}
        trigger={
          <button type="button" className="btn btn-ghost">
            <Plus size={13} aria-hidden />
            Filter
          </button>
        }
      >
        <FilterForm
          others={filters}
          range={range}
          onDone={(next) => {
            setOpen(null);
            set([...filters, next]);
          }}
        />
      </Popover>
    </span>
  );
}

function FilterForm({
  filter,
  others,
  range,
  onDone,
}: {
  filter?: Filter;
  /** What series have to meet besides: only labels and values of those are offered. */
  others: Filter[];
  range: Range;
  onDone: (filter: Filter) => void;
}) {
  const [key, setKey] = useState(filter?.key ?? '');
  const [op, setOp] = useState<FilterOperator>(filter?.op ?? '=');
  const [value, setValue] = useState(filter?.value ?? '');
  const [keys, values] = [useId(), useId()];
  const match =
    others.length > 0 ? [`{${filtersText([...others, { key: '__name__', op: '!=', value: '' }])}}`] : undefined;
  const times = { from: range.from, to: range.to, limit: OFFERED };
  const names = useQuery({
    queryKey: ['filter-names', currentTenant(), match, Math.round(range.to / 60_000)],
    queryFn: ({ signal }) => labelNames({ ...times, match }, signal),
  });
  const wanted = key.trim();
  const offered = useQuery({
    queryKey: ['filter-values', currentTenant(), match, wanted, Math.round(range.to / 60_000)],
    enabled: wanted !== '' && (names.data?.data.includes(wanted) ?? false),
    placeholderData: undefined,
    queryFn: ({ signal }) => labelValues(wanted, { ...times, match }, signal),
  });
  const known = (names.data?.data ?? []).filter((name) => name !== '__name__');
  const isRight = wanted !== '';
  return (
    <form
      className="filter-form"
      onSubmit={(e) => {
        e.preventDefault();
        if (isRight) onDone({ key: wanted, op, value });
      }}
    >
      <Field label="Label">
        <Input value={key} list={keys} autoComplete="off" spellCheck={false} onChange={(e) => setKey(e.target.value)} />
      </Field>
      <datalist id={keys}>
        {known.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <Field label="Operator">
        <Select value={op} onChange={(e) => setOp(e.target.value as FilterOperator)}>
          {FILTER_OPERATORS.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </Select>
      </Field>
      <Field label="Value">
        <Input
          value={value}
          list={values}
          autoComplete="off"
          spellCheck={false}
          onChange={(e) => setValue(e.target.value)}
        />
      </Field>
      <datalist id={values}>
        {(offered.data?.data ?? []).slice(0, OFFERED).map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      {names.error && <p className="critical small">■ {names.error.message}</p>}
      {names.data && wanted !== '' && !known.includes(wanted) && known.length < OFFERED && (
        <p className="muted small">no series of this range has this label</p>
      )}
      <Button look="primary" type="submit" disabled={!isRight}>
        {filter ? 'Change' : 'Add'}
      </Button>
    </form>
  );
}
