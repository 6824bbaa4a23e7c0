// Zones by what people know of them: a city, a region, an offset.

import { formatMoment, isZone, type Zone, zoneName } from './time';

/** Browsers keep names that IANA has given up. */
const RENAMED: Record<string, Zone> = {
  'America/Godthab': 'America/Nuuk',
  'Asia/Calcutta': 'Asia/Kolkata',
  'Asia/Katmandu': 'Asia/Kathmandu',
  'Asia/Rangoon': 'Asia/Yangon',
  'Asia/Saigon': 'Asia/Ho_Chi_Minh',
  'Atlantic/Faeroe': 'Atlantic/Faroe',
  'Europe/Kiev': 'Europe/Kyiv',
  'Pacific/Enderbury': 'Pacific/Kanton',
  'Pacific/Ponape': 'Pacific/Pohnpei',
  'Pacific/Truk': 'Pacific/Chuuk',
};

/** Those of places, and UTC. */
export function allZones(): Zone[] {
  const names = Intl.supportedValuesOf('timeZone').filter((name) => name !== 'UTC');
  const modern = names.map((name) => (RENAMED[name] && isZone(RENAMED[name]) ? RENAMED[name] : name));
  return ['utc', ...new Set(modern)];
}

/** Words of a name, `+5:30`, or what clocks show: `14:` or `14:05`. All of them. */
export function findZones(zones: Zone[], find: string, at: number): Zone[] {
  const words = find
    .toLowerCase()
    .split(/[\s/_]+/)
    .filter(Boolean);
  const found = zones.filter((zone) => {
    const name = zone.toLowerCase().replaceAll('_', ' ');
    const offset = zoneName(zone, at).toLowerCase();
    const clock = formatMoment(at, zone).slice(11, 16);
    return words.every((word) =>
      /^(?:utc|gmt)?[+-]\d/.test(word)
        ? offset === `utc${word.replace(/^(?:utc|gmt)/, '')}` || offset === `utc${padded(word)}`
        : /^\d\d:/.test(word)
          ? clock.startsWith(word)
          : name.includes(word),
    );
  });
  // Other names that are known, such as US/Eastern, are found when they are whole.
  const whole = find.trim();
  return found.length === 0 && /^[A-Za-z]+\/[A-Za-z0-9_+/-]+$/.test(whole) && isZone(whole) ? [whole] : found;
}

/** `+5:30` as offsets are written: with two digits where there are minutes. */
const padded = (word: string): string =>
  word
    .replace(/^(?:utc|gmt)/, '')
    .replace(/^([+-])0?(\d):00$|^([+-])0(\d)$/, '$1$3$2$4')
    .replace(/^([+-])(\d):/, '$10$2:');
