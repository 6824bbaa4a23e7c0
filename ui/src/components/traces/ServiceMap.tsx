// Who calls whom, in layers from left to right, and the same as a table. What is shown are the calls of the time that is
// chosen, counted by the server.

import { Link } from '@tanstack/react-router';
import { type CSSProperties, useMemo, useState } from 'react';
import type { Dependency } from '../../api/traces';
import { grouped, layered } from '../../lib/layers';
import { visible } from '../../lib/logrow';
import { measured } from '../../lib/measured';
import { serviceColours, serviceName } from '../../lib/trace';
import { formatCount, formatValue } from '../../lib/units';
import { type ColumnDef, DataTable } from '../DataTable';

const SIZES = { width: 176, height: 44, across: 84, down: 16 };
const MARGIN = 14;
/** More services than this are put together. */
const MOST = 150;
const NAME = 24;

interface Call extends Dependency {
  from: string;
  to: string;
}

export function callsOf(dependencies: Dependency[], group: Map<string, string>): Call[] {
  const calls = new Map<string, Call>();
  for (const one of dependencies) {
    const [from, to] = [group.get(one.parent)!, group.get(one.child)!];
    // Within a group nobody calls anybody.
    if (from === to) continue;
    const key = JSON.stringify([from, to]);
    const known = calls.get(key);
    if (!known) {
      calls.set(key, { ...one, from, to });
      continue;
    }
    const callCount = known.callCount + one.callCount;
    known.averageDurationNs =
      (known.averageDurationNs * known.callCount + one.averageDurationNs * one.callCount) / Math.max(1, callCount);
    known.callCount = callCount;
    known.errorCount += one.errorCount;
  }
  return [...calls.values()];
}

export function ServiceMap({
  dependencies,
  alone,
  seconds,
}: {
  dependencies: Dependency[];
  /** Services that neither call nor are called. */
  alone: string[];
  /** How long the time is; without it calls are counted, not rated. */
  seconds?: number;
}) {
  const [near, setNear] = useState<string | null>(null);
  const map = useMemo(() => {
    const calls = new Map<string, number>();
    for (const one of dependencies)
      for (const name of [one.parent, one.child]) calls.set(name, (calls.get(name) ?? 0) + one.callCount);
    const names = [...calls.keys()].sort();
    const { group, members } = grouped(names, (name) => calls.get(name) ?? 0, MOST);
    const edges = callsOf(dependencies, group);
    return {
      edges,
      members,
      names: [...members.keys()],
      placed: measured('map', () => layered([...members.keys()], edges, SIZES)),
    };
  }, [dependencies]);
  const colours = useMemo(() => serviceColours([...map.members.values()].flat()), [map]);
  const received = useMemo(() => {
    const out = new Map<string, { calls: number; errors: number }>();
    for (const edge of map.edges) {
      const known = out.get(edge.to) ?? { calls: 0, errors: 0 };
      out.set(edge.to, { calls: known.calls + edge.callCount, errors: known.errors + edge.errorCount });
    }
    return out;
  }, [map]);
  const most = Math.max(1, ...map.edges.map((edge) => edge.callCount));
  const { placed } = map;
  const [width, height] = [placed.width + 2 * MARGIN, placed.height + 2 * MARGIN];
  return (
    <>
      <div className="service-map" data-testid="service-map">
        <svg
          width={width}
          height={height}
          viewBox={`0 0 ${width} ${height}`}
          role="group"
          aria-label={`${map.names.length} services and who calls whom; the table below says the same`}
        >
          <defs>
            <marker
              id="arrow"
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
              orient="auto"
              markerUnits="userSpaceOnUse"
            >
              <path d="M0 0.500 L8 4 L0 7.500 z" className="map-arrow" />
            </marker>
          </defs>
          <g transform={`translate(${MARGIN} ${MARGIN})`}>
            {map.edges.map((edge, i) => {
              const isNear = near === edge.from || near === edge.to;
              return (
                <path
                  key={`${edge.from} ${edge.to}`}
                  d={lineOf(placed.lines[i]!)}
                  className={`map-edge ${near && !isNear ? 'is-far' : ''} ${isNear ? 'is-near' : ''}`}
                  style={
                    {
                      // The more of its calls fail the redder; a fifth of them is red enough.
                      '--failed': `${edge.errorCount === 0 ? 0 : 25 + 60 * Math.min(1, (5 * edge.errorCount) / edge.callCount)}%`,
                      strokeWidth: 1 + 2.5 * (Math.log10(1 + edge.callCount) / Math.log10(1 + most)),
                    } as CSSProperties
                  }
                  markerEnd="url(#arrow)"
                >
                  <title>{`${serviceName(edge.from)} → ${serviceName(edge.to)}: ${formatCount(edge.callCount)} calls, ${formatCount(edge.errorCount)} failed, mean ${formatValue(edge.averageDurationNs, 'ns')}`}</title>
                </path>
              );
            })}
            {map.names.map((name) => {
              const at = placed.nodes.get(name)!;
              const members = map.members.get(name)!;
              const own = members.length === 1;
              const asked = received.get(name);
              const whole = visible(serviceName(name));
              const shown = whole.length > NAME ? `${whole.slice(0, NAME - 1)}…` : whole;
              const often = (calls: number): string =>
                seconds === undefined
                  ? `${formatCount(calls)} ${calls === 1 ? 'call' : 'calls'}`
                  : `${formatValue(calls / seconds)}/s`;
              const says = asked
                ? `${often(asked.calls)}${asked.errors > 0 ? ` · ■ ${formatValue(asked.errors / asked.calls, 'percentunit')} fail` : ''}`
                : 'calls only';
              const isFar =
                near !== null &&
                near !== name &&
                !map.edges.some(
                  (edge) => (edge.from === near && edge.to === name) || (edge.to === near && edge.from === name),
                );
              const box = (
                <>
                  <rect width={SIZES.width} height={SIZES.height} rx={5} className="map-box" />
                  <rect
                    width={4}
                    height={SIZES.height}
                    rx={2}
                    style={{ fill: own ? `var(--series-${colours.get(members[0]!)! + 1})` : 'var(--muted)' }}
                  />
                  <text>
                    <tspan x={12} y={18} className="map-name">
                      {shown}
                    </tspan>{' '}
                    <tspan x={12} y={34} className={`map-says ${asked && asked.errors > 0 ? 'has-errors' : ''}`}>
                      {own ? says : `${formatCount(members.length)} services · ${says}`}
                    </tspan>
                  </text>
                </>
              );
              return (
                <g
                  key={name}
                  transform={`translate(${at.x - SIZES.width / 2} ${at.y - SIZES.height / 2})`}
                  className={`map-node ${isFar ? 'is-far' : ''}`}
                  onPointerEnter={() => setNear(name)}
                  onPointerLeave={() => setNear(null)}
                >
                  <title>{own ? whole.slice(0, 500) : members.slice(0, 60).join('\n')}</title>
                  {own ? (
                    <Link
                      to="/services"
                      search={{ service: members[0] }}
                      onFocus={() => setNear(name)}
                      onBlur={() => setNear(null)}
                    >
                      {box}
                    </Link>
                  ) : (
                    box
                  )}
                </g>
              );
            })}
          </g>
        </svg>
      </div>
      {map.members.size < new Set(dependencies.flatMap((one) => [one.parent, one.child])).size && (
        <p className="cap-note">
          More than {MOST} services: those with names that begin alike are one box here. The table has each.
        </p>
      )}
      {alone.length > 0 && (
        <p className="cap-note">
          Without calls in this time:{' '}
          {alone.slice(0, 40).map((name, i) => (
            <span key={name}>
              {i > 0 && ', '}
              <Link to="/services" search={{ service: name }}>
                <bdi>{visible(serviceName(name))}</bdi>
              </Link>
            </span>
          ))}
          {alone.length > 40 && `, and ${alone.length - 40} more`}
        </p>
      )}
      <CallTable calls={dependencies} seconds={seconds} />
    </>
  );
}

/** A line that leaves and arrives level. */
function lineOf(points: { x: number; y: number }[]): string {
  const half = SIZES.width / 2;
  const way = points.map((point, i) => ({
    x: point.x + (i === 0 ? half : i === points.length - 1 ? -half : 0),
    y: point.y,
  }));
  // Against the direction of layers: it leaves on the left and comes back on the right.
  const back = points[0]!.x > points.at(-1)!.x;
  if (back) {
    way[0]!.x = points[0]!.x - half;
    way.at(-1)!.x = points.at(-1)!.x + half;
  }
  let path = `M${way[0]!.x} ${way[0]!.y}`;
  for (let i = 1; i < way.length; i++) {
    const [a, b] = [way[i - 1]!, way[i]!];
    const middle = (a.x + b.x) / 2;
    path += ` C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}`;
  }
  return path;
}

export function CallTable({ calls, seconds }: { calls: Dependency[]; seconds?: number }) {
  const columns = useMemo<ColumnDef<Dependency>[]>(
    () => [
      {
        id: 'parent',
        title: 'calls',
        width: 'minmax(160px, 1fr)',
        sort: (row) => row.parent,
        cell: (row) => <ServiceLink name={row.parent} />,
      },
      {
        id: 'child',
        title: 'is called',
        width: 'minmax(160px, 1fr)',
        sort: (row) => row.child,
        cell: (row) => <ServiceLink name={row.child} />,
      },
      {
        id: 'calls',
        title: 'calls',
        width: '100px',
        numeric: true,
        sort: (row) => row.callCount,
        cell: (row) => formatCount(row.callCount),
      },
      ...(seconds === undefined
        ? []
        : [
            {
              id: 'rate',
              title: 'rate',
              width: '100px',
              numeric: true,
              sort: (row: Dependency) => row.callCount,
              cell: (row: Dependency) => `${formatValue(row.callCount / seconds)}/s`,
            },
          ]),
      {
        id: 'errors',
        title: 'failed',
        width: '110px',
        numeric: true,
        sort: (row) => row.errorCount / Math.max(1, row.callCount),
        cell: (row) => <ErrorShare share={row.errorCount / Math.max(1, row.callCount)} />,
      },
      {
        id: 'mean',
        title: 'mean',
        width: '100px',
        numeric: true,
        sort: (row) => row.averageDurationNs,
        cell: (row) => formatValue(row.averageDurationNs, 'ns'),
      },
    ],
    [seconds],
  );
  return (
    <div className="service-table">
      <DataTable
        rows={calls}
        columns={columns}
        rowKey={(row) => JSON.stringify([row.parent, row.child])}
        initialSort={{ id: 'calls', down: true }}
        most={420}
        label="Calls between services"
      />
    </div>
  );
}

export function ServiceLink({ name }: { name: string }) {
  return (
    <Link to="/services" search={{ service: name || undefined }} onClick={(event) => event.stopPropagation()}>
      <bdi>{visible(serviceName(name).slice(0, 200))}</bdi>
    </Link>
  );
}

export function ErrorShare({ share }: { share: number }) {
  return share > 0 ? (
    <span className="critical">
      <span className="wf-mark" aria-hidden>
        ■
      </span>{' '}
      {formatValue(share, 'percentunit')}
    </span>
  ) : (
    <span className="muted">0 %</span>
  );
}
