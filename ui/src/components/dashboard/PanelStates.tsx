// What every panel that asks something has around its picture: it loads, failed, was stopped, asks nothing; and the badge
// where an answer is not whole, or the server has something to say of it.

import { CircleStop, RotateCw } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useEffect } from 'react';
import { ApiError } from '../../api/client';
import type { Panel } from '../../lib/dashboard/model';
import { useRange } from '../../state/clock';
import { type Asked, type Report, reportOf, runAgain, useInspected, useReport } from '../../state/panels';
import { Popover } from '../floating';
import type { Inspected } from '../Inspect';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button, CopyButton } from '../ui';

const Inspect = lazy(() => import('../Inspect'));

export function PanelStates<T>({
  panel,
  title,
  height,
  isSeen,
  asked,
  notes,
  sent,
  reportAs,
  children,
}: {
  panel: Panel;
  title: string;
  height: number;
  isSeen: boolean;
  asked: Asked<T>[];
  /** What else is missing from the answer. */
  notes?: string[];
  /** The requests of queries of PromQL. */
  sent?: (Inspected['asked'] | undefined)[];
  /** The name by which the dashboard is told. */
  reportAs: string | undefined;
  children: ReactNode;
}) {
  const report = reportOf(title || panel.kind, asked, notes);
  useReport(reportAs, report);
  const answered = asked.some((a) => a.answer !== undefined);
  const failed = asked.find((a) => a.error !== null);
  const isStopped = asked.some((a) => a.isStopped);
  let content = children;
  if (asked.length === 0)
    content = <Empty title="This panel asks nothing">It has no query; edit it to write one.</Empty>;
  else if (!answered && failed?.error)
    content =
      height < 130 ? (
        <SmallError error={failed.error} />
      ) : (
        <ErrorBox error={failed.error} query={failed.text} onRetry={failed.again} />
      );
  else if (!answered && isStopped)
    content = (
      <Empty
        icon={height < 130 ? undefined : CircleStop}
        title="Stopped"
        actions={
          <Button icon={RotateCw} onClick={() => runAgain(report.stopped)}>
            Run again
          </Button>
        }
      >
        {height < 130 ? null : 'Its request was ended before there was an answer.'}
      </Empty>
    );
  else if (!answered && asked.some((a) => a.isPending))
    // Out of sight nothing is asked, so nothing is on its way.
    content = isSeen ? <Skeleton height={height} rows={Math.max(1, Math.min(6, Math.floor(height / 30)))} /> : null;
  return (
    <>
      {content}
      <Badge report={report} answered={answered} />
      <PanelInspect panel={panel} title={title} asked={asked} sent={sent} reportAs={reportAs} />
    </>
  );
}

interface InspectProps<T> {
  panel: Panel;
  title: string;
  asked: Asked<T>[];
  sent?: (Inspected['asked'] | undefined)[];
  reportAs: string | undefined;
}

/** What is inside the panel, while somebody looks. */
export function PanelInspect<T>(props: InspectProps<T>) {
  const { reportAs } = props;
  // Another dashboard may have a panel of this name.
  useEffect(() => () => useInspected.setState((old) => (old.panel === reportAs ? { panel: null } : old)), [reportAs]);
  return useInspected((s) => s.panel !== null && s.panel === reportAs) ? <Inside {...props} /> : null;
}

function Inside<T>({ panel, title, asked, sent }: InspectProps<T>) {
  const { zone } = useRange();
  const json = JSON.stringify(panel, null, 2);
  return (
    <Suspense>
      <Inspect
        title={title || 'this panel'}
        parts={asked.map(({ ref, text, answer, error }, i) => ({ name: ref, text, asked: sent?.[i], answer, error }))}
        zone={zone}
        about={{
          label: 'Panel',
          content: (
            <div className="snippet">
              <pre className="inspect-json" tabIndex={0}>
                {json}
              </pre>
              <CopyButton text={json} />
            </div>
          ),
        }}
        onClose={() => useInspected.setState({ panel: null })}
      />
    </Suspense>
  );
}

export function SmallError({ error }: { error: unknown }) {
  const message = error instanceof Error ? error.message : String(error);
  return (
    <p className="panel-error critical small" role="alert" title={message}>
      ■ {error instanceof ApiError ? `${error.type}: ` : ''}
      {message}
    </p>
  );
}

export function ReportList({ report }: { report: Report }) {
  const lines = [
    ...report.partial.map((text) => ['warn', 'Partial', text] as const),
    ...report.warnings.map((text) => ['warn', 'Warning', text] as const),
    ...report.infos.map((text) => ['info', 'Note', text] as const),
  ];
  return (
    <ul className="remarks">
      {lines.map(([tone, word, text], i) => (
        <li key={i} className={`remark-${tone}`}>
          <span aria-hidden>{tone === 'warn' ? '▲' : '◆'}</span>
          <span>
            <b>{word}</b> <bdi>{text.slice(0, 1000)}</bdi>
          </span>
        </li>
      ))}
    </ul>
  );
}

function Badge({ report, answered }: { report: Report; answered: boolean }) {
  const { partial, warnings, infos, stopped } = report;
  if (!answered || partial.length + warnings.length + infos.length === 0) return null;
  const said = partial.length > 0 ? '▲ partial' : warnings.length > 0 ? '▲ warning' : '◆ note';
  return (
    <Popover
      label="What is to be said of the answer"
      trigger={
        <button
          type="button"
          className={`panel-warning ${partial.length + warnings.length > 0 ? 'warn' : 'muted'}`}
          aria-label={`${said.slice(2)}: what is to be said of the answer`}
        >
          {said}
        </button>
      }
    >
      <div className="report-list" tabIndex={0} role="group" aria-label="What is to be said of the answer">
        <ReportList report={report} />
        {stopped.length > 0 && (
          <Button icon={RotateCw} onClick={() => runAgain(stopped)}>
            Run again
          </Button>
        )}
      </div>
    </Popover>
  );
}
