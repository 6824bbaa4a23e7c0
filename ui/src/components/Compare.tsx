// What tells a chosen part from the rest: attributes, the most telling first, with the shares of their values in both.

import { GitCompare, X } from 'lucide-react';
import { type ReactNode, useState } from 'react';
import { type Differing, type DifferingValue, MOST_VALUES, telling } from '../lib/compare';
import { visible } from '../lib/logrow';
import { formatCount, formatValue } from '../lib/units';
import { Button, IconButton } from './ui';
import '../style/compare.css';

const FIELDS = 12;
const VALUES = 4;

export function Comparison({
  about,
  tools,
  onClose,
  children,
}: {
  /** Of what, against what. */
  about: ReactNode;
  tools?: ReactNode;
  onClose: () => void;
  children: ReactNode;
}) {
  return (
    <section className="compare" aria-label="Comparison" data-testid="compare">
      <header className="compare-head">
        <GitCompare size={15} aria-hidden />
        <h2>What tells them apart</h2>
        <span className="muted tab-num">{about}</span>
        <span className="spring" />
        {tools}
        <IconButton icon={X} label="Close the comparison" onClick={onClose} />
      </header>
      {children}
    </section>
  );
}

/** Names, as many as can be read. */
export const namesText = (names: string[]): string =>
  names
    .slice(0, 20)
    .map((name) => visible(name.slice(0, 80)))
    .join(', ') + (names.length > 20 ? `, and ${names.length - 20} more` : '');

/** What of the labels was not compared, and why: items of a list of remarks. */
export function LabelRemarks({
  data,
  what,
}: {
  data: { series: number; moreSeries: number; leftOut: string[]; moreLabels: number };
  what: string;
}) {
  return (
    <>
      {data.moreSeries > 0 && (
        <li className="cap-note">
          Labels of the {formatCount(data.series - data.moreSeries)} largest {what} are compared, of{' '}
          {formatCount(data.moreSeries)} smaller ones they are not.
        </li>
      )}
      {data.leftOut.length > 0 && (
        <li className="cap-note">
          Not compared, for they have more than {formatCount(MOST_VALUES)} values: {namesText(data.leftOut)}
        </li>
      )}
      {data.moreLabels > 0 && (
        <li className="cap-note">{formatCount(data.moreLabels)} more labels are not compared.</li>
      )}
    </>
  );
}

export function Differences({
  fields,
  none,
  says,
  click,
  onValue,
  pressed,
  dimmed,
}: {
  fields: Differing[];
  /** What a value without text is. */
  none: string;
  /** How much of both has a value. */
  says: (value: DifferingValue) => string;
  /** What a click on a value does. */
  click: string;
  onValue: (field: Differing, value: string) => void;
  /** The value that is clicked, where clicks turn; null: none is. */
  pressed?: { name: string; value: string } | null;
  dimmed?: boolean;
}) {
  const [all, setAll] = useState(false);
  return (
    <>
      <div className={`compare-fields ${dimmed ? 'is-dimmed' : ''}`}>
        {fields.slice(0, all ? undefined : FIELDS).map((field) => (
          <div key={`${field.scope} ${field.name}`} className="compare-field">
            <h3>
              <bdi className="clip">
                {field.scope !== undefined && <span className="muted">{field.scope}.</span>}
                {visible(field.name.slice(0, 200))}
              </bdi>
              <span className="tab-num" title="The largest difference of shares among its values">
                {formatValue(field.score, 'percentunit', 0)}
              </span>
            </h3>
            <ul>
              {telling(field)
                .slice(0, VALUES)
                .map((value) => {
                  const text = value.value === '' ? none : visible(value.value.slice(0, 300));
                  return (
                    <li key={value.value}>
                      <button
                        type="button"
                        title={`${click} ${text}: ${says(value)}`}
                        aria-pressed={
                          pressed === undefined
                            ? undefined
                            : pressed?.name === field.name && pressed.value === value.value
                        }
                        onClick={() => onValue(field, value.value)}
                      >
                        <bdi className={value.value === '' ? 'muted clip' : 'clip'}>{text}</bdi>
                        <span className="compare-bars" aria-hidden>
                          <span className="is-chosen" style={{ width: `${value.own * 100}%` }} />
                          <span style={{ width: `${value.other * 100}%` }} />
                        </span>
                        <span className="tab-num small">
                          <span className="compare-chosen">{formatValue(value.own, 'percentunit', 0)}</span>
                          <span className="muted"> {formatValue(value.other, 'percentunit', 0)}</span>
                        </span>
                      </button>
                    </li>
                  );
                })}
            </ul>
          </div>
        ))}
      </div>
      {fields.length > FIELDS && !all && (
        <Button onClick={() => setAll(true)}>{fields.length - FIELDS} more attributes</Button>
      )}
    </>
  );
}
