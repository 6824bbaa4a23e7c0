// The search language on one page.

import { Dialog } from '../floating';
import { WriteToFind } from '../WriteToFind';

const ROWS: [string, string][] = [
  ['refused', 'bodies with this word'],
  ['"connection refused"', 'bodies with these words, one after the other'],
  ['conn*   *nect*', 'a word that begins so; this anywhere, also inside of words'],
  ['/re.*x/   /re.*x/i', 'bodies that match a regular expression; i: whatever the case'],
  ['service.name:checkout', 'a field that is exactly this'],
  ['path:/api/*   path:*cart*   path:/^.api/', 'a field that begins so, has this, matches this'],
  ['message.detail:~refused', 'a field that has this word'],
  ['status:[500 TO 599]   {500 TO 600}', 'numbers in a range, with and without its ends'],
  ['took>1.5   took<=10   status!=503', 'numbers compared'],
  ['level>=warn   level:error', 'severity: trace, debug, info, warn, error, fatal'],
  ['trace_id:0af7651916cd43dd8448eb211c80319c', 'the lines of a trace'],
  ['user:*   -user:*', 'records that have a field; that do not'],
  ['-debug   NOT debug', 'what is not to be there'],
  ['a b   a OR b   status:(500 OR 503)', 'all of them; any of them'],
];

export default function LanguageHelp({ onClose }: { onClose: () => void }) {
  return (
    <Dialog open onClose={onClose} title="The search language" width={720}>
      <WriteToFind rows={ROWS} />
      <p className="muted small">
        Case matters, but in names of levels. Quotes and \ take meaning from signs: "a:b", a\:b. Fields are attributes
        of the record, or where it has none of this name of its resource, then of its scope; resource.x and attributes.x
        mean one place only.
      </p>
    </Dialog>
  );
}
