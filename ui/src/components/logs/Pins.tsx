// Records that stay in sight while others are searched for. Those of a link are asked for by their times.

import { useQueries } from '@tanstack/react-query';
import { Pin, PinOff } from 'lucide-react';
import { useMemo } from 'react';
import { type LogRow, logsAt } from '../../api/logs';
import { byTime, MOST_PINS, pinOf, pinTime } from '../../lib/pins';
import { formatMoment } from '../../lib/time';
import { currentTenant } from '../../state/prefs';
import { Button, IconButton } from '../ui';
import { LineCells, lineColumns } from './LogList';

/** The records of pins, newest first, and pins whose record is not there (any more). */
export function usePinned(pins: string[], known: LogRow[]): { rows: LogRow[]; absent: string[]; isPending: boolean } {
  const tenant = currentTenant();
  const here = useMemo(() => {
    const out = new Map<string, LogRow>();
    const times = new Set(pins.map((pin) => pinTime(pin)));
    for (const row of known) if (times.has(row.timeUnixNano)) out.set(pinOf(row), row);
    return out;
  }, [pins, known]);
  const answers = useQueries({
    queries: pins.map((pin) => ({
      queryKey: ['log-pin', tenant, pin],
      // A record never changes. One that is loaded needs no question.
      staleTime: Number.POSITIVE_INFINITY,
      initialData: here.get(pin),
      queryFn: async ({ signal }: { signal: AbortSignal }): Promise<LogRow | null> => {
        const found = await logsAt(pinTime(pin) ?? '0', signal);
        return found.data.rows.find((row) => pinOf(row) === pin) ?? null;
      },
    })),
  });
  const rows: LogRow[] = [];
  const absent: string[] = [];
  answers.forEach((answer, i) => {
    if (answer.data) rows.push(answer.data);
    else if (!answer.isPending) absent.push(pins[i]!);
  });
  return { rows: rows.sort(byTime), absent, isPending: answers.some((answer) => answer.isPending) };
}

export function Pins({
  pinned,
  columns,
  words,
  wrap,
  raw,
  zone,
  dated,
  isFull,
  onOpen,
  onPin,
  onUnpin,
}: {
  pinned: ReturnType<typeof usePinned>;
  columns: string[];
  words: string[];
  wrap: boolean;
  raw: boolean;
  zone: string;
  dated: boolean;
  /** Another one was wanted, and there is no room. */
  isFull: boolean;
  /** Shows what was around it. */
  onOpen: (row: LogRow) => void;
  onPin: (row: LogRow) => void;
  /** These, or all. */
  onUnpin: (pins?: string[]) => void;
}) {
  const { rows, absent } = pinned;
  const template = lineColumns(columns, dated);
  return (
    <section className="log-pins" aria-label="Pinned records" data-testid="log-pins">
      <header>
        <Pin size={11} aria-hidden />
        <span className="tab-num">{rows.length} pinned</span>
        {absent.length > 0 && (
          <span className="warn">
            ▲ {absent.length} not there: past retention, or of another tenant
            <Button look="ghost" onClick={() => onUnpin(absent)}>
              Forget
            </Button>
          </span>
        )}
        {isFull && (
          <span className="warn" role="status">
            ▲ {MOST_PINS} are as many as a link holds
          </span>
        )}
        <span className="spring" />
        <Button look="ghost" icon={PinOff} onClick={() => onUnpin()}>
          Clear
        </Button>
      </header>
      <ul className="log-pin-rows" tabIndex={0} aria-label="Pinned lines">
        {rows.map((row) => (
          <li
            key={pinOf(row)}
            className={`log-row is-pinned ${wrap ? 'is-wrapped' : ''}`}
            style={{ gridTemplateColumns: template }}
          >
            <LineCells
              row={row}
              columns={columns}
              words={words}
              wrap={wrap}
              raw={raw}
              zone={zone}
              dated={dated}
              isPinned
              onPin={onPin}
            />
            <span className="log-pin-tools">
              <Button look="ghost" onClick={() => onOpen(row)}>
                Go there
              </Button>
              <IconButton
                icon={PinOff}
                label={`Take the pin of ${formatMoment(Number(BigInt(row.timeUnixNano) / 1_000_000n), zone, true)} away`}
                onClick={() => onPin(row)}
              />
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
