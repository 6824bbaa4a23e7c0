// A list that is empty because of its filters: which of them hide everything, and a way back.

import { FilterX } from 'lucide-react';
import type { ReactNode } from 'react';
import { formatCount } from '../lib/units';
import { Empty } from './states';
import { Button } from './ui';

export interface HidingFilter {
  /** `words`, `type`. */
  name: string;
  value: string;
  onClear: () => void;
}

export function FilteredOut({
  what,
  of,
  filters,
  small = false,
  children,
}: {
  /** In the plural: `services`. */
  what: string;
  /** How many there are without the filters, if that is known. */
  of?: number;
  /** Those that are set. */
  filters: HidingFilter[];
  small?: boolean;
  children?: ReactNode;
}) {
  const set = filters.filter((filter) => filter.value !== '');
  const title =
    of === undefined
      ? `No ${what} meet the filter`
      : `None of ${formatCount(of)} ${what} ${of === 1 ? 'meets' : 'meet'} the filter`;
  const said = set.map((filter, i) => (
    <span key={filter.name}>
      {i > 0 && ' and '}
      {filter.name} <bdi className="mono">{filter.value.slice(0, 100)}</bdi>
    </span>
  ));
  const buttons = set.map((filter) => (
    <Button key={filter.name} look={small ? 'ghost' : 'plain'} onClick={filter.onClear}>
      {set.length === 1 ? 'Clear the filter' : `Clear ${filter.name}`}
    </Button>
  ));
  if (small)
    return (
      <div className="filtered-out small" role="status" data-testid="filtered-out">
        <span className="muted">
          {title}: {said}
        </span>
        {buttons}
      </div>
    );
  return (
    <div role="status" data-testid="filtered-out">
      <Empty icon={FilterX} title={title} actions={buttons}>
        Hidden by {said}. {children}
      </Empty>
    </div>
  );
}
