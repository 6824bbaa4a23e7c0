// One cell of a notebook: what is asked or told, what can be done with it, and what it gave.

import {
  ArrowDown,
  ArrowUp,
  Check,
  ChevronDown,
  ChevronRight,
  CopyPlus,
  ListTree,
  Pencil,
  Play,
  Square,
  Trash2,
} from 'lucide-react';
import { lazy, Suspense, useEffect, useState } from 'react';
import type { Answer } from '../../api/client';
import type { SqlTable } from '../../api/sql';
import type { CellSpec } from '../../lib/notebook';
import { ErrorBox, errorPosition, Skeleton, SlowNote } from '../states';
import { Button, CopyButton, IconButton, Segmented } from '../ui';
import type { PromOutcome } from './PromResult';
import { Result } from './Result';

const SqlEditor = lazy(() => import('../SqlEditor'));
const PromqlEditor = lazy(() => import('../PromqlEditor'));
const PromResult = lazy(() => import('./PromResult'));
const TextCell = lazy(() => import('./TextCell'));

export interface Cell extends CellSpec {
  key: number;
  /** As it was run last. */
  ran?: string;
  /** What was sent for that. */
  sent?: string;
  answer?: Answer<SqlTable>;
  prom?: PromOutcome;
  error?: Error;
  /** When the run that is under way began. */
  began?: number;
  /** Whether a text is written, not shown. */
  isEdited?: boolean;
}

const KINDS = { sql: 'Statement', promql: 'Query', text: 'Text' };

export function CellView({
  cell,
  index,
  zone,
  isLast,
  isOnly,
  isFull,
  onChange,
  onRun,
  onExplain,
  onStop,
  onMove,
  onDuplicate,
  onRemove,
  onFocus,
}: {
  cell: Cell;
  index: number;
  zone: string;
  isLast: boolean;
  isOnly: boolean;
  /** Whether there may be no more cells. */
  isFull: boolean;
  /** `isView`: only how it is shown, which the address says at once. */
  onChange: (part: Partial<Cell>, isView?: boolean) => void;
  onRun: () => void;
  onExplain: () => void;
  onStop: () => void;
  onMove: (by: number) => void;
  onDuplicate: () => void;
  onRemove: () => void;
  onFocus: (insert: (text: string) => void) => void;
}) {
  const { kind, text, error, answer, prom } = cell;
  const [problem, setProblem] = useState<{ line: number; column: number; message: string } | null>(null);
  useEffect(() => {
    const place = error && errorPosition(error.message);
    setProblem(place ? { ...place, message: error.message } : null);
  }, [error]);
  const isRunning = cell.began !== undefined;
  const isStale = cell.ran !== undefined && cell.ran !== text;
  const isBlank = text.trim() === '';
  const label = `${KINDS[kind]} ${index + 1}`;
  const name = label.toLowerCase();
  const edit = (next: string) => {
    // A mark is of the text that was run.
    setProblem(null);
    onChange({ text: next });
  };
  const editText = (on: boolean) => onChange({ isEdited: on }, !on);
  const body = `cell-${cell.key}`;
  return (
    <section className="panel sql-cell" aria-label={`Cell ${index + 1}`} data-testid="sql-cell" data-kind={kind}>
      <div className="sql-write">
        <span className="sql-side">
          <span className="query-letter" aria-hidden>
            {index + 1}
          </span>
          <IconButton
            icon={cell.folded ? ChevronRight : ChevronDown}
            label={cell.folded ? `Unfold cell ${index + 1}` : `Fold cell ${index + 1}`}
            aria-expanded={!cell.folded}
            aria-controls={cell.folded ? undefined : body}
            onClick={() => onChange({ folded: !cell.folded }, true)}
          />
        </span>
        {cell.folded ? (
          <button type="button" className="sql-folded" onClick={() => onChange({ folded: false }, true)}>
            <span className="kind">{KINDS[kind]}</span>
            <code className="clip">{text.trim().split('\n')[0] || 'empty'}</code>
            {cell.error && <span className="critical small">■ failed</span>}
          </button>
        ) : (
          <div className="sql-editor" id={body}>
            <Suspense fallback={<div className="code-editor is-loading" />}>
              {kind === 'sql' ? (
                <SqlEditor
                  value={text}
                  onChange={edit}
                  onRun={onRun}
                  label={label}
                  autoFocus={(index === 0 && isOnly && isBlank) || cell.isEdited}
                  problem={problem}
                  onFocus={onFocus}
                />
              ) : kind === 'promql' ? (
                <PromqlEditor value={text} onChange={edit} onRun={onRun} label={label} autoFocus={cell.isEdited} />
              ) : (
                <TextCell text={text} label={label} isEdited={cell.isEdited ?? false} onText={edit} onEdit={editText} />
              )}
            </Suspense>
          </div>
        )}
      </div>
      <div className="sql-bar">
        {kind === 'text' ? (
          cell.folded ? null : cell.isEdited ? (
            <Button icon={Check} onClick={() => editText(false)} title="Ctrl Enter">
              Done
            </Button>
          ) : (
            <Button icon={Pencil} onClick={() => editText(true)}>
              Edit
            </Button>
          )
        ) : isRunning ? (
          <Button icon={Square} onClick={onStop}>
            Stop
          </Button>
        ) : (
          <Button icon={Play} onClick={onRun} disabled={isBlank} title="Ctrl Enter">
            Run
          </Button>
        )}
        {kind === 'sql' && (
          <Button look="ghost" icon={ListTree} onClick={onExplain} disabled={isBlank || isRunning}>
            Explain
          </Button>
        )}
        {kind === 'promql' && !cell.folded && (
          <Segmented
            label="Asked"
            value={cell.instant ? 'instant' : 'range'}
            choices={[
              { id: 'range', label: 'Over the range' },
              { id: 'instant', label: 'At its end' },
            ]}
            onChange={(id) => onChange({ instant: id === 'instant' }, true)}
          />
        )}
        {cell.began !== undefined && <SlowNote since={cell.began} />}
        {isStale && !isRunning && <span className="muted small">changed since it was run</span>}
        <span className="spring" />
        <CopyButton text={text} label={`Copy the ${KINDS[kind].toLowerCase()}`} />
        <IconButton icon={CopyPlus} label="Duplicate" onClick={onDuplicate} disabled={isFull} />
        <IconButton icon={ArrowUp} label="Move up" onClick={() => onMove(-1)} disabled={index === 0} />
        <IconButton icon={ArrowDown} label="Move down" onClick={() => onMove(1)} disabled={isLast} />
        <IconButton icon={Trash2} label="Remove this cell" onClick={onRemove} disabled={isOnly && text === ''} />
      </div>
      {!cell.folded && error && <ErrorBox error={error} query={cell.ran} />}
      {!cell.folded && (
        <div className={isRunning ? 'is-dimmed' : ''}>
          {answer && (
            <Result
              answer={answer}
              statement={cell.sent ?? text}
              zone={zone}
              name={name}
              isChart={cell.view === 'chart'}
              chart={cell.chart}
              onView={(isChart) => onChange({ view: isChart ? 'chart' : undefined }, true)}
              onChart={(chart) => onChange({ chart }, true)}
            />
          )}
          {prom && (
            <Suspense fallback={<Skeleton height={300} rows={6} />}>
              <PromResult
                outcome={prom}
                zone={zone}
                name={name}
                isTable={cell.view === 'table'}
                onView={(isTable) => onChange({ view: isTable ? 'table' : undefined }, true)}
              />
            </Suspense>
          )}
        </div>
      )}
    </section>
  );
}
