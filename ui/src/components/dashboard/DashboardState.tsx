// How the questions of a dashboard are going: under way and how to stop them, stopped, answered in part or with warnings.

import { useQueryClient } from '@tanstack/react-query';
import { CircleStop, RotateCw } from 'lucide-react';
import { useEffect, useState } from 'react';
import { type Report, runAgain, stopAll, useReports, useRunning } from '../../state/panels';
import { Popover } from '../floating';
import { Button, IconButton } from '../ui';
import { ReportList } from './PanelStates';

/** Quick answers do not make a button flicker. */
const PATIENCE_MS = 400;

const of = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

export function DashboardState({ stoppedVariables }: { stoppedVariables: number }) {
  const client = useQueryClient();
  const running = useRunning();
  const panels = useReports((s) => s.panels);
  const [isSlow, setIsSlow] = useState(false);
  const isRunning = running > 0;
  useEffect(() => {
    if (!isRunning) {
      setIsSlow(false);
      return;
    }
    const timer = setTimeout(() => setIsSlow(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [isRunning]);
  const reports = [...panels];
  const stopped = reports.filter(([, r]) => r.stopped.length > 0).length;
  const partial = reports.filter(([, r]) => r.partial.length > 0);
  const warned = reports.filter(([, r]) => r.partial.length === 0 && r.warnings.length > 0);
  const whatStopped = [
    ...(stopped > 0 ? [of(stopped, 'panel')] : []),
    ...(stoppedVariables > 0 ? [of(stoppedVariables, 'variable')] : []),
  ].join(', ');
  return (
    <span className="dashboard-state" data-testid="dashboard-state">
      {stopped + stoppedVariables > 0 && (
        <>
          <span className="muted small" role="status" title={whatStopped}>
            ○ {stopped + stoppedVariables} stopped
          </span>
          <IconButton icon={RotateCw} label="Run again what was stopped" onClick={() => runAgain()} />
        </>
      )}
      {partial.length > 0 && <Told words={`${of(partial.length, 'panel')} partial`} reports={partial} />}
      {warned.length > 0 && <Told words={`${of(warned.length, 'panel')} with warnings`} reports={warned} />}
      {isRunning && isSlow && (
        <Button icon={CircleStop} onClick={() => stopAll(client)} title="Ends the queries that are under way">
          Stop
          <span className="tab-num">{running}</span>
        </Button>
      )}
    </span>
  );
}

function Told({ words, reports }: { words: string; reports: [string, Report][] }) {
  return (
    <Popover
      label={words}
      trigger={
        <button type="button" className="state-tag warn">
          ▲ {words}
        </button>
      }
    >
      <div className="report-list" tabIndex={0} role="group" aria-label={words}>
        {reports.slice(0, 100).map(([id, report]) => (
          <section key={id}>
            <h3>
              <bdi>{report.title}</bdi>
            </h3>
            <ReportList report={report} />
          </section>
        ))}
      </div>
    </Popover>
  );
}
