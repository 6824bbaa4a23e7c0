// A panel while it is edited: how it looks above, what it asks below, how it draws beside.

import { Eye, EyeOff, Plus, Trash2 } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useEffect, useRef, useState } from 'react';
import {
  asKind,
  type FieldLook,
  isOfNumbers,
  LANGUAGE_NAMES,
  LANGUAGES,
  languageOf,
  PANEL_KINDS,
  type Panel,
  type PanelOptions,
  type PanelQuery,
  type QueryLanguage,
  type Reducer,
  refName,
  type Variable,
} from '../../lib/dashboard/model';
import { UNITS } from '../../lib/units';
import { Button, Field, IconButton, Input, Segmented, Select } from '../ui';
import { LinkEditor } from './LinkEditor';
import { PanelBody, type PanelContext, panelRange } from './PanelView';
import { QueryEditor } from './QueryEditor';

const TraceSearch = lazy(() => import('./TraceSearch'));

const OF_LINKS = 'of this server, or of the web; $name, $__from, $__url_time_range, $__all_variables';
const OF_VALUES = '${__value.raw}, ${__value.time}, ${__field.labels.job}, ${__series.name}, ${__data.fields.host}';

export default function PanelEditor({
  panel,
  variables,
  context,
  onChange,
}: {
  panel: Panel;
  variables: Variable[];
  context: PanelContext;
  onChange: (panel: Panel, what: string) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  // What is typed is asked when it is run, not at each key.
  const [drafts, setDrafts] = useState<PanelQuery[]>(panel.queries);
  const known = useRef(panel.queries);
  useEffect(() => {
    if (known.current !== panel.queries) {
      known.current = panel.queries;
      setDrafts(panel.queries);
    }
  }, [panel.queries]);
  const [form, setForm] = useState(false);
  const set = (part: Partial<Panel>, what: string) => onChange({ ...panel, ...part }, what);
  const option = (part: Partial<PanelOptions>, what = Object.keys(part)[0] ?? 'option') =>
    set({ options: clean({ ...panel.options, ...part }) }, what);
  const run = (queries = drafts) => {
    known.current = queries;
    if (JSON.stringify(queries) !== JSON.stringify(panel.queries)) set({ queries }, 'queries');
  };
  const change = (i: number, part: Partial<PanelQuery>, now = false) => {
    const next = drafts.map((q, j) => (j === i ? clean({ ...q, ...part }) : q));
    setDrafts(next);
    if (now) run(next);
  };
  const hasValues = isOfNumbers(panel.kind) || panel.kind === 'sql';
  const isDrawn = panel.kind === 'timeseries' || (panel.kind === 'sql' && panel.options.chart === true);
  return (
    <div className="panel-editor">
      <div className="panel-editor-main">
        <div className="panel-preview" ref={box} data-testid="preview">
          {width > 40 && <PanelBody panel={panel} context={context} height={300} width={width - 24} />}
        </div>
        {panel.kind === 'text' ? (
          <textarea
            className="input"
            rows={14}
            aria-label="Text in Markdown"
            value={panel.options.text ?? ''}
            onChange={(e) => option({ text: e.target.value })}
          />
        ) : (
          <div className="queries">
            {drafts.map((query, i) => {
              const languages = LANGUAGES[panel.kind];
              const language = languageOf(panel.kind, query);
              return (
                <div key={query.ref} className="panel-query">
                  <div className="query-row">
                    <span className="query-letter">{query.ref}</span>
                    <div className="query-box">
                      <QueryEditor
                        key={language}
                        language={language}
                        range={panelRange(panel, context.range, context.scope, context.zone)}
                        value={query.expr}
                        onChange={(expr) => change(i, { expr })}
                        onRun={() => run()}
                        label={`Query ${query.ref}`}
                      />
                    </div>
                    <IconButton
                      icon={query.hidden ? EyeOff : Eye}
                      label={query.hidden ? 'Not asked; ask it' : 'Asked; leave it out'}
                      onClick={() => change(i, { hidden: query.hidden ? undefined : true }, true)}
                    />
                    <IconButton
                      icon={Trash2}
                      label="Remove the query"
                      disabled={drafts.length === 1}
                      onClick={() => {
                        const next = drafts.filter((_, j) => j !== i);
                        setDrafts(next);
                        run(next);
                      }}
                    />
                  </div>
                  <div className="panel-query-more">
                    {languages.length > 1 && (
                      <label className="check">
                        In
                        <Select
                          aria-label={`Language of query ${query.ref}`}
                          value={language}
                          onChange={(e) => {
                            const next = e.target.value as QueryLanguage;
                            change(i, { language: next === languages[0] ? undefined : next });
                          }}
                        >
                          {languages.map((one) => (
                            <option key={one} value={one}>
                              {LANGUAGE_NAMES[one]}
                            </option>
                          ))}
                        </Select>
                      </label>
                    )}
                    {isOfNumbers(panel.kind) && (
                      <>
                        <label className="check">
                          Legend
                          <Input
                            value={query.legend ?? ''}
                            placeholder="by itself, or {{label}}"
                            onChange={(e) => change(i, { legend: e.target.value || undefined })}
                            onBlur={() => run()}
                          />
                        </label>
                        <label className="check">
                          Least step
                          <Input
                            className="short"
                            value={query.step ?? ''}
                            placeholder="auto"
                            onChange={(e) => change(i, { step: e.target.value || undefined })}
                            onBlur={() => run()}
                          />
                        </label>
                        {language !== 'traceql' && (
                          <label className="check">
                            <input
                              type="checkbox"
                              checked={query.instant ?? false}
                              onChange={(e) => change(i, { instant: e.target.checked || undefined }, true)}
                            />
                            only at the end of the range
                          </label>
                        )}
                      </>
                    )}
                    {panel.kind === 'traces' && (
                      <div className="trace-search">
                        <Button look="ghost" aria-expanded={form} onClick={() => setForm(!form)}>
                          Search by a form
                        </Button>
                        {form && (
                          <Suspense>
                            <TraceSearch
                              query={query.expr}
                              range={panelRange(panel, context.range, context.scope, context.zone)}
                              onQuery={(expr) => change(i, { expr }, true)}
                            />
                          </Suspense>
                        )}
                      </div>
                    )}
                    {HINTS[language] && <span className="muted small">{HINTS[language]}</span>}
                  </div>
                </div>
              );
            })}
            <div className="query-bar">
              <Button look="primary" onClick={() => run()}>
                Run
              </Button>
              {panel.kind !== 'traces' && panel.kind !== 'sql' && (
                <Button
                  icon={Plus}
                  onClick={() => {
                    const taken = new Set(drafts.map((q) => q.ref));
                    let at = drafts.length;
                    while (taken.has(refName(at))) at++;
                    setDrafts([...drafts, { ref: refName(at), expr: '' }]);
                  }}
                >
                  Add a query
                </Button>
              )}
            </div>
          </div>
        )}
      </div>
      <aside className="panel-editor-side" aria-label="Options">
        <Group title="Panel">
          <Field label="Kind">
            <Select
              value={panel.kind}
              onChange={(e) => onChange(asKind(panel, e.target.value as Panel['kind']), 'kind')}
            >
              {PANEL_KINDS.filter((k) => k.id !== 'row').map((k) => (
                <option key={k.id} value={k.id}>
                  {k.label}
                </option>
              ))}
            </Select>
          </Field>
          <Field label="Title">
            <Input value={panel.title} onChange={(e) => set({ title: e.target.value }, 'title')} />
          </Field>
          <Field label="Description">
            <Input
              value={panel.description ?? ''}
              onChange={(e) => set({ description: e.target.value || undefined }, 'description')}
            />
          </Field>
          <Field label="Repeat for each value of">
            <Select
              value={panel.repeat?.variable ?? ''}
              onChange={(e) =>
                set({ repeat: e.target.value ? { ...panel.repeat, variable: e.target.value } : undefined }, 'repeat')
              }
            >
              <option value="">nothing</option>
              {variables.map((v) => (
                <option key={v.name} value={v.name}>
                  {v.name}
                </option>
              ))}
            </Select>
          </Field>
        </Group>
        {panel.kind === 'logs' && <LinesGroup options={panel.options} option={option} />}
        {panel.kind === 'traces' && <TracesGroup options={panel.options} option={option} />}
        {panel.kind === 'sql' && (
          <Group title="Rows">
            <OneOf
              label="Shown as"
              value={panel.options.chart ? 'chart' : 'table'}
              names={{ table: 'Table', chart: 'Time series' }}
              onChange={(id) => option({ chart: id === 'chart' || undefined })}
            />
          </Group>
        )}
        {hasValues && <LookGroup options={panel.options} option={option} />}
        {isDrawn && <LineGroup options={panel.options} option={option} />}
        {(panel.kind === 'stat' || panel.kind === 'gauge' || panel.kind === 'bar') && (
          <FigureGroup panel={panel} option={option} />
        )}
        {hasValues && panel.kind !== 'heatmap' && (
          <ThresholdGroup options={panel.options} option={option} lines={isDrawn} />
        )}
        <Group title="Links of the panel">
          <LinkEditor
            links={panel.links}
            onChange={(links, what) => set({ links }, `links:${what}`)}
            hint={OF_LINKS}
            add="Add a link"
          />
        </Group>
        {hasValues && panel.kind !== 'heatmap' && (
          <Group title="Links of its values">
            <LinkEditor
              links={panel.options.links}
              onChange={(links, what) => option({ links }, `value-links:${what}`)}
              hint={OF_VALUES}
              add="Add a link of values"
            />
          </Group>
        )}
      </aside>
    </div>
  );
}

const HINTS: Partial<Record<QueryLanguage, string>> = {
  search: 'Nothing finds everything; a variable is put in as the search takes it: field:$name.',
  sql: '$__timeFilter(time), $__timeFrom(), $__timeTo(), $__timeGroup(time, $__interval), $__from, $__to (milliseconds); of several chosen values IN ($name)',
  traceql: 'Nothing finds all spans; a variable is put in within quotes: resource.service.name =~ "$name".',
};

function clean<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

type SetOption = (part: Partial<PanelOptions>, what?: string) => void;

function Group({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="option-group">
      <h2>{title}</h2>
      {children}
    </section>
  );
}

const number = (text: string): number | undefined =>
  text.trim() === '' || !Number.isFinite(Number(text)) ? undefined : Number(text);

function NumberField({
  label,
  value,
  onChange,
  placeholder = 'auto',
}: {
  label: string;
  value: number | undefined;
  onChange: (value: number | undefined) => void;
  placeholder?: string;
}) {
  return (
    <Field label={label}>
      <Input
        type="number"
        value={value ?? ''}
        placeholder={placeholder}
        onChange={(e) => onChange(number(e.target.value))}
      />
    </Field>
  );
}

function LinesGroup({ options, option }: { options: PanelOptions; option: SetOption }) {
  const [fields, setFields] = useState(() => (options.fields ?? []).join(', '));
  return (
    <Group title="Lines">
      <Field label="Fields beside each line">
        <Input
          value={fields}
          placeholder="with commas between"
          onChange={(e) => {
            setFields(e.target.value);
            const names = e.target.value
              .split(',')
              .map((name) => name.trim())
              .filter(Boolean);
            option({ fields: names.length > 0 ? names.slice(0, 6) : undefined });
          }}
        />
      </Field>
      <NumberField
        label="Lines at most"
        value={options.limit}
        placeholder="200"
        onChange={(limit) => option({ limit })}
      />
      <Switch label="Wrap long lines" on={options.wrap} onChange={(wrap) => option({ wrap })} />
      <Switch label="The oldest first" on={options.oldestFirst} onChange={(oldestFirst) => option({ oldestFirst })} />
    </Group>
  );
}

function TracesGroup({ options, option }: { options: PanelOptions; option: SetOption }) {
  return (
    <Group title="Traces">
      <OneOf
        label="Order"
        value={options.slowestFirst ? 'slowest' : 'newest'}
        names={{ newest: 'Newest', slowest: 'Slowest' }}
        onChange={(id) => option({ slowestFirst: id === 'slowest' || undefined })}
      />
      <NumberField
        label="Traces at most"
        value={options.limit}
        placeholder="50"
        onChange={(limit) => option({ limit })}
      />
    </Group>
  );
}

function LookGroup({ options, option }: { options: PanelOptions; option: SetOption }) {
  const known = UNITS.some((u) => u.id === (options.unit ?? 'short'));
  return (
    <Group title="Values">
      <Field label="Unit">
        <Select value={options.unit ?? 'short'} onChange={(e) => option({ unit: e.target.value })}>
          {!known && <option value={options.unit}>{options.unit}</option>}
          {UNITS.map((u) => (
            <option key={u.id} value={u.id}>
              {u.name}
            </option>
          ))}
        </Select>
      </Field>
      <div className="three">
        <NumberField label="Decimals" value={options.decimals} onChange={(decimals) => option({ decimals })} />
        <NumberField label="From" value={options.min} onChange={(min) => option({ min })} />
        <NumberField label="To" value={options.max} onChange={(max) => option({ max })} />
      </div>
    </Group>
  );
}

/** A choice of a few by their names. */
function OneOf<T extends string>({
  label,
  value,
  names,
  onChange,
}: {
  label: string;
  value: T;
  names: Record<T, string>;
  onChange: (value: T) => void;
}) {
  const choices = (Object.entries(names) as [T, string][]).map(([id, name]) => ({ id, label: name }));
  return <Segmented label={label} value={value} choices={choices} onChange={(id) => onChange(id as T)} />;
}

function Switch({
  label,
  on,
  onChange,
}: {
  label: string;
  on: boolean | undefined;
  /** Off is left out of what is stored. */
  onChange: (on: true | undefined) => void;
}) {
  return (
    <label className="check">
      <input type="checkbox" checked={on ?? false} onChange={(e) => onChange(e.target.checked || undefined)} />
      {label}
    </label>
  );
}

function LineGroup({ options, option }: { options: PanelOptions; option: SetOption }) {
  return (
    <Group title="Drawing">
      <OneOf
        label="Drawn as"
        value={options.draw ?? 'line'}
        names={{ line: 'Lines', bars: 'Bars', points: 'Points' }}
        onChange={(draw) => option({ draw })}
      />
      <OneOf
        label="Stacked"
        value={options.stack ?? 'none'}
        names={{ none: 'Apart', normal: 'Stacked', percent: 'Of 100 %' }}
        onChange={(stack) => option({ stack })}
      />
      <div className="three">
        <NumberField
          label="Fill (0 to 1)"
          value={options.fill}
          onChange={(fill) => option({ fill: fill === undefined ? undefined : Math.min(Math.max(fill, 0), 1) })}
        />
        <NumberField label="Line width" value={options.lineWidth} onChange={(lineWidth) => option({ lineWidth })} />
      </div>
      <Switch label="Steps instead of slopes" on={options.stepped} onChange={(stepped) => option({ stepped })} />
      <Switch label="Logarithmic" on={options.log} onChange={(log) => option({ log })} />
      <Field label="Legend">
        <Select
          value={options.legend ?? 'list'}
          onChange={(e) => option({ legend: e.target.value as PanelOptions['legend'] })}
        >
          <option value="list">Names</option>
          <option value="table">Table with numbers</option>
          <option value="none">None</option>
        </Select>
      </Field>
    </Group>
  );
}

function FigureGroup({ panel, option }: { panel: Panel; option: SetOption }) {
  const { options } = panel;
  return (
    <Group title="Figure">
      <Field label="Of a series show">
        <Select value={options.reduce ?? 'last'} onChange={(e) => option({ reduce: e.target.value as Reducer })}>
          {[
            ['last', 'the last value'],
            ['mean', 'the average'],
            ['max', 'the largest'],
            ['min', 'the smallest'],
            ['sum', 'the sum'],
            ['delta', 'the change'],
            ['range', 'the spread'],
            ['first', 'the first value'],
            ['count', 'the number of values'],
          ].map(([id, label]) => (
            <option key={id} value={id}>
              {label}
            </option>
          ))}
        </Select>
      </Field>
      {panel.kind === 'stat' && (
        <>
          <OneOf
            label="Colour"
            value={options.colourBy ?? 'value'}
            names={{ none: 'Plain', value: 'Value', background: 'Background' }}
            onChange={(colourBy) => option({ colourBy })}
          />
          <Switch
            label="Its course in the background"
            on={options.sparkline}
            onChange={(sparkline) => option({ sparkline })}
          />
        </>
      )}
    </Group>
  );
}

function ThresholdGroup({ options, option, lines }: { options: PanelOptions; option: SetOption; lines: boolean }) {
  const steps = options.thresholds ?? [];
  const change = (next: NonNullable<FieldLook['thresholds']>) =>
    option({ thresholds: next.length > 0 ? next : undefined }, 'thresholds');
  return (
    <Group title="Thresholds">
      {steps.map((step, i) => (
        <div key={i} className="threshold-row">
          {step.value === null ? (
            <span className="muted">base</span>
          ) : (
            <Input
              type="number"
              aria-label="From this value on"
              value={step.value}
              onChange={(e) =>
                change(steps.map((s, j) => (j === i ? { ...s, value: number(e.target.value) ?? 0 } : s)))
              }
            />
          )}
          <Select
            aria-label="Colour"
            value={step.colour}
            onChange={(e) => change(steps.map((s, j) => (j === i ? { ...s, colour: e.target.value } : s)))}
          >
            {[...new Set(['green', 'yellow', 'orange', 'red', 'blue', 'purple', step.colour])].map((c) => (
              <option key={c} value={c}>
                {c}
              </option>
            ))}
          </Select>
          <IconButton
            icon={Trash2}
            label="Remove the threshold"
            onClick={() => change(steps.filter((_, j) => j !== i))}
          />
        </div>
      ))}
      <Button
        icon={Plus}
        onClick={() =>
          change(
            steps.length === 0
              ? [
                  { value: null, colour: 'green' },
                  { value: 80, colour: 'red' },
                ]
              : [...steps, { value: (steps.at(-1)?.value ?? 0) + 10, colour: 'red' }],
          )
        }
      >
        Add a threshold
      </Button>
      {lines && steps.length > 0 && (
        <Switch
          label="Draw them as lines"
          on={options.showThresholds}
          onChange={(showThresholds) => option({ showThresholds })}
        />
      )}
    </Group>
  );
}
