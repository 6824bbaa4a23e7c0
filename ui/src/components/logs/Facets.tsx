// The fields of what was found, with exact counts of their values. A click on a value narrows the search.

import { useQuery } from '@tanstack/react-query';
import { ChevronDown, ChevronRight, Columns3, Minus } from 'lucide-react';
import { useState } from 'react';
import { type LogField, type LogQuestion, logFields, topValues } from '../../api/logs';
import { levelOf } from '../../lib/logrow';
import { formatCount } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { FilteredOut } from '../Filtered';
import { ErrorBox, Skeleton } from '../states';
import { IconButton, Input } from '../ui';
import '../../style/facets.css';

/** Values of a field at first, and after "more". */
const FEW = 8;
const MANY = 100;

/** What most people look at first, then the rest by where it stands. */
const FIRST = ['level', 'service.name'];
/** Of these every record has its own. */
const NO_VALUES = new Set(['body', 'time', 'observed_time']);

export type Narrow = (field: string, value: string | null, negate?: boolean) => void;

export function Facets({
  question,
  columns,
  onNarrow,
  onColumn,
}: {
  question: LogQuestion;
  columns: string[];
  onNarrow: Narrow;
  onColumn: (field: string) => void;
}) {
  const [find, setFind] = useState('');
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set(FIRST));
  const fields = useQuery({
    queryKey: ['timed', 'log-fields', currentTenant(), question],
    queryFn: ({ signal }) => logFields(question, signal),
  });
  if (fields.error) return <ErrorBox error={fields.error} />;
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = (field: LogField): number => {
    const at = FIRST.indexOf(field.name);
    return at >= 0 ? at : ['attributes', 'resource', 'record', 'scope'].indexOf(field.place) + FIRST.length;
  };
  const all = (fields.data?.data.fields ?? []).filter((field) => !NO_VALUES.has(field.name));
  const rows = all
    .filter((field) => words.every((word) => field.name.toLowerCase().includes(word)))
    .sort((a, b) => rank(a) - rank(b) || b.count - a.count || a.name.localeCompare(b.name));
  return (
    <div className="facets">
      <Input
        aria-label="Find a field"
        placeholder="Find a field"
        value={find}
        onChange={(event) => setFind(event.target.value)}
      />
      {!fields.data ? (
        <Skeleton rows={8} />
      ) : (
        <ul className={fields.isPlaceholderData ? 'is-dimmed' : ''}>
          {rows.slice(0, 200).map((field) => {
            const isOpen = open.has(field.name);
            const Glyph = isOpen ? ChevronDown : ChevronRight;
            return (
              <li key={field.name}>
                <div className="facet-head">
                  <button
                    type="button"
                    aria-expanded={isOpen}
                    title={`${field.name}: ${field.types.join(', ')}, in ${formatCount(field.count)} records`}
                    onClick={() =>
                      setOpen((old) => {
                        const next = new Set(old);
                        if (!next.delete(field.name)) next.add(field.name);
                        return next;
                      })
                    }
                  >
                    <Glyph size={12} aria-hidden />
                    <bdi className="clip">{field.name}</bdi>
                    <span className="muted small tab-num">{formatCount(field.count)}</span>
                  </button>
                  <IconButton
                    icon={Columns3}
                    label={
                      columns.includes(field.name)
                        ? `Take the column ${field.name} away`
                        : `Show ${field.name} as a column`
                    }
                    active={columns.includes(field.name)}
                    onClick={() => onColumn(field.name)}
                  />
                </div>
                {isOpen && <Values question={question} field={field.name} onNarrow={onNarrow} />}
              </li>
            );
          })}
          {rows.length > 200 && <li className="cap-note">{rows.length - 200} more: type a part of a name</li>}
          {rows.length === 0 && (
            <li>
              {find === '' ? (
                <span className="muted small">No field.</span>
              ) : (
                <FilteredOut
                  small
                  what="fields"
                  of={all.length}
                  filters={[{ name: 'the words', value: find, onClear: () => setFind('') }]}
                />
              )}
            </li>
          )}
        </ul>
      )}
    </div>
  );
}

function Values({ question, field, onNarrow }: { question: LogQuestion; field: string; onNarrow: Narrow }) {
  const [many, setMany] = useState(false);
  const limit = many ? MANY : FEW;
  const top = useQuery({
    queryKey: ['timed', 'log-top', currentTenant(), question, field, limit],
    queryFn: ({ signal }) => topValues(question, field, limit, signal),
  });
  if (top.error) return <ErrorBox error={top.error} />;
  if (!top.data) return <Skeleton rows={3} />;
  const { values, total, distinct } = top.data.data;
  return (
    <ul className={`facet-values ${top.isPlaceholderData ? 'is-dimmed' : ''}`}>
      {values.map(({ fields, count }) => {
        const value = Object.values(fields)[0] ?? null;
        const shown = value === null ? 'without it' : value === '' ? 'empty' : value.slice(0, 200);
        return (
          <li key={value === null ? 'null' : `=${value}`}>
            <button
              type="button"
              className={`facet-value ${field === 'level' ? `lv-${levelOf(value)}` : ''}`}
              title={`Only ${field} = ${shown}`}
              onClick={() => onNarrow(field, value)}
            >
              <span className="bar-fill" style={{ width: `${(count / Math.max(1, total)) * 100}%` }} aria-hidden />
              <bdi className={value === null || value === '' ? 'muted clip' : 'clip'}>{shown}</bdi>
              <span className="muted tab-num">{formatCount(count)}</span>
            </button>
            <IconButton
              icon={Minus}
              label={`Without ${field} = ${shown}`}
              onClick={() => onNarrow(field, value, true)}
            />
          </li>
        );
      })}
      {distinct > values.length && (
        <li className="muted small facet-more">
          {many ? (
            `${formatCount(distinct - values.length)} more values`
          ) : (
            <button type="button" onClick={() => setMany(true)}>
              {formatCount(distinct - values.length)} more…
            </button>
          )}
        </li>
      )}
    </ul>
  );
}
