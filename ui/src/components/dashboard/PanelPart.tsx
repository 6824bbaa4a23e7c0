// Below a panel that is shown alone: the part of its time that is chosen, and what tells it from the rest.

import type { Frame } from '../../lib/frame';
import type { Range } from '../../lib/time';
import type { Only } from '../../state/drawn';
import { CompareSeries } from '../CompareSeries';
import { PartTools } from '../Part';
import type { ChosenPart } from './PanelView';

export function PanelPart({
  chosen,
  part,
  frame,
  names,
  unit,
  zone,
  only,
  onOnly,
}: {
  chosen: ChosenPart;
  part: Range;
  frame: Frame;
  names: string[];
  unit?: string;
  zone: string;
  only: Only | null;
  onOnly: (only: Only | null) => void;
}) {
  const { comparing, query, onZoom, onChange } = chosen;
  return (
    <>
      <div className="panel-part">
        <PartTools
          part={part}
          comparing={comparing}
          onZoom={onZoom}
          onCompare={() => onChange({ compare: true })}
          onChoose={() => onChange({ part: undefined, compare: undefined, of: undefined })}
        />
      </div>
      {comparing && (
        <CompareSeries
          frame={frame}
          part={part}
          query={query}
          names={names}
          unit={unit}
          zone={zone}
          onQuery={(at) => onChange({ of: at + 1 })}
          only={only}
          onOnly={onOnly}
          onClose={() => onChange({ compare: undefined })}
        />
      )}
    </>
  );
}
