// The fields of a search of traces. Lists apply at once, what is typed with Enter or on leaving its field.

import { useQuery } from '@tanstack/react-query';
import { X } from 'lucide-react';
import { useEffect, useId, useState } from 'react';
import { listOperations, listServices } from '../../api/traces';
import { visible } from '../../lib/logrow';
import { KINDS, parseNs, STATES, type TraceForm } from '../../lib/traceform';
import { tagCondition } from '../../lib/traceql';
import { currentTenant } from '../../state/prefs';
import { IconButton, Input, Select } from '../ui';

/** Names that a list offers; more are found by typing. */
const OFFERED = 500;

export const useServices = (range: { from: number; to: number }) =>
  useQuery({
    queryKey: ['timed', 'services', currentTenant(), range.from, range.to],
    queryFn: ({ signal }) => listServices(range, signal),
  });

function Typed({
  label,
  value,
  placeholder,
  offered,
  isRight = () => true,
  keeps = true,
  onDone,
  width,
}: {
  label: string;
  value: string;
  placeholder: string;
  offered?: string[];
  isRight?: (text: string) => boolean;
  /** Whether the text stays in the field once it applies. */
  keeps?: boolean;
  onDone: (text: string | undefined) => void;
  width: number;
}) {
  const [text, setText] = useState(value);
  const id = useId();
  useEffect(() => setText(value), [value]);
  const trimmed = text.trim();
  const wrong = trimmed !== '' && !isRight(trimmed);
  const done = () => {
    if (wrong || trimmed === value) return;
    onDone(trimmed === '' ? undefined : trimmed);
    if (!keeps) setText('');
  };
  return (
    <>
      <Input
        aria-label={label}
        aria-invalid={wrong || undefined}
        placeholder={placeholder}
        value={text}
        style={{ width }}
        list={offered ? id : undefined}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => {
          setText(event.target.value);
          // A choice of the list applies at once; what is typed may go on.
          const how = (event.nativeEvent as InputEvent).inputType;
          if ((how === undefined || how === 'insertReplacementText') && offered?.includes(event.target.value))
            onDone(event.target.value);
        }}
        onBlur={done}
        onKeyDown={(event) => event.key === 'Enter' && done()}
      />
      {offered && (
        <datalist id={id}>
          {offered.slice(0, OFFERED).map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
    </>
  );
}

const isDuration = (text: string): boolean => parseNs(text) !== null;

export function SearchForm({
  form,
  range,
  services,
  onChange,
}: {
  form: TraceForm;
  range: { from: number; to: number };
  services: string[];
  onChange: (part: Partial<TraceForm>) => void;
}) {
  const operations = useQuery({
    queryKey: ['timed', 'operations', currentTenant(), form.service, range.from, range.to],
    enabled: form.service !== undefined,
    queryFn: ({ signal }) => listOperations(form.service!, range, signal),
  });
  const names = [...new Set((operations.data?.data.operations ?? []).map((one) => one.name))];
  const tags = form.tags ?? [];
  return (
    <div className="trace-form" role="group" aria-label="Conditions">
      <Typed
        label="Service"
        placeholder="Service"
        width={150}
        value={form.service ?? ''}
        offered={services}
        onDone={(service) => onChange({ service, operation: undefined })}
      />
      <Typed
        label="Name of the span"
        placeholder="Name of the span"
        width={180}
        value={form.operation ?? ''}
        offered={form.service === undefined ? undefined : names}
        onDone={(operation) => onChange({ operation })}
      />
      <Select
        aria-label="Kind"
        value={form.kind ?? ''}
        onChange={(event) => onChange({ kind: event.target.value || undefined })}
      >
        <option value="">any kind</option>
        {KINDS.map((kind) => (
          <option key={kind}>{kind}</option>
        ))}
      </Select>
      <Select
        aria-label="Status"
        value={form.status ?? ''}
        onChange={(event) => onChange({ status: event.target.value || undefined })}
      >
        <option value="">any status</option>
        {STATES.map((status) => (
          <option key={status}>{status}</option>
        ))}
      </Select>
      {(
        [
          ['span', 'dmin', 'dmax'],
          ['trace', 'min', 'max'],
        ] as const
      ).map(([of, least, most]) => (
        <span key={of} className="trace-form-pair">
          <span className="muted small">{of}</span>
          <Typed
            label={`Shortest duration of the ${of}`}
            placeholder="from 10ms"
            width={86}
            value={form[least] ?? ''}
            isRight={isDuration}
            onDone={(text) => onChange({ [least]: text })}
          />
          <Typed
            label={`Longest duration of the ${of}`}
            placeholder="to 1.5s"
            width={86}
            value={form[most] ?? ''}
            isRight={isDuration}
            onDone={(text) => onChange({ [most]: text })}
          />
        </span>
      ))}
      <Typed
        label="Attribute, key=value"
        placeholder="attribute=value"
        width={150}
        value=""
        keeps={false}
        isRight={(text) => tagCondition(text) !== null}
        onDone={(tag) => tag !== undefined && !tags.includes(tag) && onChange({ tags: [...tags, tag].slice(-20) })}
      />
      {tags.map((tag) => (
        <span key={tag} className="trace-tag">
          <bdi className="clip mono">{visible(tag.slice(0, 200))}</bdi>
          <IconButton
            icon={X}
            label={`Without the condition ${tag.slice(0, 200)}`}
            onClick={() => {
              const rest = tags.filter((one) => one !== tag);
              onChange({ tags: rest.length > 0 ? rest : undefined });
            }}
          />
        </span>
      ))}
      <label className="check" title="Spans without a parent: one a trace, as a rule">
        <input
          type="checkbox"
          checked={form.roots ?? false}
          onChange={(event) => onChange({ roots: event.target.checked || undefined })}
        />
        roots only
      </label>
    </div>
  );
}
