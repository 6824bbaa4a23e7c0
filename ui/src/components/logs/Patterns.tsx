// What kinds of lines there are: bodies with what varies taken out, counted over time by the server.

import { useQuery } from '@tanstack/react-query';
import { Minus, Shapes } from 'lucide-react';
import { type LogQuestion, logPatterns } from '../../api/logs';
import { visible } from '../../lib/logrow';
import { patternFilter } from '../../lib/logsearch';
import { formatMoment } from '../../lib/time';
import { formatCount } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { Empty, ErrorBox, Skeleton } from '../states';
import { IconButton } from '../ui';

const SHOWN = 200;

export function Patterns({
  question,
  step,
  zone,
  total,
  onFilter,
}: {
  question: LogQuestion;
  step: number;
  zone: string;
  /** Records that the search finds. */
  total: number | null;
  onFilter: (filter: string, negate: boolean) => void;
}) {
  // A trend is read at a glance: forty bars.
  const width = Math.max(step, Math.ceil((question.to - question.from) / 40 / step) * step);
  const found = useQuery({
    queryKey: ['timed', 'log-patterns', currentTenant(), question, width],
    queryFn: ({ signal }) => logPatterns(question, width, SHOWN, signal),
  });
  if (found.error) return <ErrorBox error={found.error} query={question.query} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Skeleton height={300} rows={10} />;
  const { patterns, leftOut } = found.data.data;
  if (patterns.length === 0)
    return (
      <Empty icon={Shapes} title="No patterns">
        The search finds no records in this time.
      </Empty>
    );
  const all = total ?? patterns.reduce((sum, p) => sum + p.count, leftOut);
  return (
    <div className={`patterns ${found.isPlaceholderData ? 'is-dimmed' : ''}`} data-testid="patterns">
      <table>
        <thead>
          <tr>
            <th className="num">records</th>
            <th className="num">share</th>
            <th>trend</th>
            <th>pattern</th>
            <th>
              <span className="sr-only">without it</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {patterns.map((row) => (
            <tr key={row.pattern}>
              <td className="num">{formatCount(row.count)}</td>
              <td className="num muted">{((row.count / Math.max(1, all)) * 100).toFixed(1)} %</td>
              <td>
                <Trend values={row.values} from={question.from} to={question.to} step={width} zone={zone} />
              </td>
              <td>
                <button
                  type="button"
                  className="pattern-text mono"
                  title="Only these"
                  onClick={() => onFilter(patternFilter(row.pattern), false)}
                >
                  <bdi>
                    {row.pattern
                      .slice(0, 400)
                      .split(/(<_>)/)
                      .map((part, i) =>
                        part === '<_>' ? (
                          <span key={i} className="pattern-any">
                            ∗
                          </span>
                        ) : (
                          visible(part)
                        ),
                      )}
                  </bdi>
                </button>
              </td>
              <td>
                <IconButton
                  icon={Minus}
                  label="Without these"
                  onClick={() => onFilter(patternFilter(row.pattern), true)}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {leftOut > 0 && (
        <p className="cap-note">
          {formatCount(leftOut)} records are not counted here: there are too many kinds of them.
        </p>
      )}
    </div>
  );
}

function Trend({
  values,
  from,
  to,
  step,
  zone,
}: {
  values: [number, number][];
  from: number;
  to: number;
  step: number;
  zone: string;
}) {
  const most = Math.max(1, ...values.map(([, count]) => count));
  const peak = values.find(([, count]) => count === most);
  return (
    <svg
      className="trend"
      viewBox={`0 0 ${Math.max(1, (to - from) / step)} ${most}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={peak ? `most, ${formatCount(most)}, at ${formatMoment(peak[0] * 1000, zone)}` : 'no course'}
    >
      {values.map(([seconds, count]) => (
        <rect key={seconds} x={(seconds * 1000 - from) / step + 0.1} width={0.8} y={most - count} height={count} />
      ))}
    </svg>
  );
}
