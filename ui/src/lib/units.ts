// Numbers with units, as short as they can be and still be exact enough to act on. Unit names are those that
// dashboards in Grafana's format use, so that an imported panel reads as it did.

import { formatMoment, pageZone } from './time';

const SI = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
const IEC = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];

function digits(value: number, decimals?: number): string {
  if (decimals !== undefined) return value.toFixed(Math.min(Math.max(decimals, 0), 12));
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 1e21) return value.toExponential(2);
  if (size >= 100) return String(Math.round(value * 10) / 10);
  if (size >= 1) return String(Math.round(value * 100) / 100);
  if (size >= 1e-4) return String(Number(value.toPrecision(3)));
  return value.toExponential(2);
}

function scaled(value: number, base: number, names: string[], decimals?: number): [string, string] {
  let size = Math.abs(value);
  let step = 0;
  while (size >= base * (base === 1000 ? 0.99995 : 1) && step < names.length - 1) {
    size /= base;
    value /= base;
    step += 1;
  }
  return [digits(value, decimals), names[step]!];
}

function seconds(value: number, decimals?: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0 s';
  if (size < 1e-6) return `${digits(value * 1e9, decimals)} ns`;
  if (size < 1e-3) return `${digits(value * 1e6, decimals)} µs`;
  if (size < 1) return `${digits(value * 1e3, decimals)} ms`;
  if (size < 120) return `${digits(value, decimals)} s`;
  if (size < 7200) return `${digits(value / 60, decimals)} min`;
  if (size < 172_800) return `${digits(value / 3600, decimals)} h`;
  if (size < 365 * 86_400) return `${digits(value / 86_400, decimals)} d`;
  return `${digits(value / (365 * 86_400), decimals)} y`;
}

const SUFFIX: Record<string, string> = {
  reqps: ' req/s',
  rps: ' rd/s',
  wps: ' wr/s',
  ops: ' op/s',
  iops: ' IO/s',
  cps: ' c/s',
  eps: ' ev/s',
  mps: ' msg/s',
  pps: ' p/s',
  rowsps: ' rows/s',
  hertz: ' Hz',
  rotrpm: ' rpm',
  volt: ' V',
  amp: ' A',
  watt: ' W',
  joule: ' J',
  samples: ' samples',
  series: ' series',
  sps: ' samples/s',
};

/** Units a panel may choose, with the words that the chooser shows. */
export const UNITS: { id: string; name: string }[] = [
  { id: 'short', name: 'Number, shortened (1.2 k)' },
  { id: 'none', name: 'Number, whole' },
  { id: 'percent', name: 'Percent (0-100)' },
  { id: 'percentunit', name: 'Percent (0.0-1.0)' },
  { id: 's', name: 'Time: seconds' },
  { id: 'ms', name: 'Time: milliseconds' },
  { id: 'ns', name: 'Time: nanoseconds' },
  { id: 'bytes', name: 'Bytes (1024)' },
  { id: 'decbytes', name: 'Bytes (1000)' },
  { id: 'Bps', name: 'Bytes a second (1000)' },
  { id: 'binBps', name: 'Bytes a second (1024)' },
  { id: 'bps', name: 'Bits a second' },
  { id: 'reqps', name: 'Requests a second' },
  { id: 'ops', name: 'Operations a second' },
  { id: 'sps', name: 'Samples a second' },
  { id: 'celsius', name: 'Temperature: °C' },
  { id: 'hertz', name: 'Frequency: hertz' },
  { id: 'dateTimeAsIso', name: 'Date and time (from milliseconds)' },
  { id: 'bool', name: 'True or false' },
];

/** A value in a unit. Not-a-number and infinities are shown as what they are. */
export function formatValue(value: number | null | undefined, unit = 'short', decimals?: number): string {
  if (value === null || value === undefined) return '–';
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  switch (unit) {
    case 'none':
    case 'string':
      return decimals === undefined ? String(Number(value.toPrecision(12))) : value.toFixed(decimals);
    case 'percent':
      return `${digits(value, decimals)} %`;
    case 'percentunit':
      return `${digits(value * 100, decimals)} %`;
    case 's':
    case 'dtdurations':
    case 'clocks':
      return seconds(value, decimals);
    case 'ms':
    case 'dtdurationms':
      return seconds(value / 1e3, decimals);
    case 'µs':
      return seconds(value / 1e6, decimals);
    case 'ns':
      return seconds(value / 1e9, decimals);
    case 'm':
      return seconds(value * 60, decimals);
    case 'h':
      return seconds(value * 3600, decimals);
    case 'd':
      return seconds(value * 86_400, decimals);
    case 'bytes':
    case 'kbytes':
    case 'mbytes':
    case 'gbytes': {
      const factor = { bytes: 1, kbytes: 1024, mbytes: 1024 ** 2, gbytes: 1024 ** 3 }[unit];
      const [text, prefix] = scaled(value * factor, 1024, IEC, decimals);
      return `${text} ${prefix}B`;
    }
    case 'decbytes':
    case 'decmbytes':
    case 'deckbytes': {
      const factor = { decbytes: 1, deckbytes: 1e3, decmbytes: 1e6 }[unit];
      const [text, prefix] = scaled(value * factor, 1000, SI, decimals);
      return `${text} ${prefix}B`;
    }
    case 'Bps': {
      const [text, prefix] = scaled(value, 1000, SI, decimals);
      return `${text} ${prefix}B/s`;
    }
    case 'binBps': {
      const [text, prefix] = scaled(value, 1024, IEC, decimals);
      return `${text} ${prefix}B/s`;
    }
    case 'bits':
    case 'decbits': {
      const [text, prefix] = scaled(value, 1000, SI, decimals);
      return `${text} ${prefix}b`;
    }
    case 'bps':
    case 'binbps': {
      const [text, prefix] = scaled(value, 1000, SI, decimals);
      return `${text} ${prefix}b/s`;
    }
    case 'celsius':
      return `${digits(value, decimals)} °C`;
    case 'fahrenheit':
      return `${digits(value, decimals)} °F`;
    case 'bool':
    case 'bool_yes_no':
      return value === 0 ? (unit === 'bool' ? 'False' : 'No') : unit === 'bool' ? 'True' : 'Yes';
    case 'bool_on_off':
      return value === 0 ? 'Off' : 'On';
    case 'dateTimeAsIso':
    case 'dateTimeAsLocal':
    case 'dateTimeAsSystem':
    case 'dateTimeFromNow':
      return Math.abs(value) > 8.64e15 ? digits(value) : formatMoment(value, pageZone());
    default: {
      const [text, prefix] = scaled(value, 1000, SI, decimals);
      const custom = /^(?:suffix|prefix):(.*)$/s.exec(unit);
      if (custom) return unit.startsWith('suffix') ? `${text}${prefix} ${custom[1]}` : `${custom[1]}${text}${prefix}`;
      const suffix = SUFFIX[unit];
      if (suffix) return `${text}${prefix && ` ${prefix}`}${suffix}`;
      return prefix ? `${text} ${prefix}` : text;
    }
  }
}

export const formatBytes = (value: number): string => formatValue(value, 'bytes');
export const formatCount = (value: number): string =>
  Number.isFinite(value) ? Math.round(value).toLocaleString('en-US').replace(/,/g, ' ') : '–';
