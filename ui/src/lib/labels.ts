// Label sets as text: names of series, legends by template, matchers for PromQL.

export type Labels = Record<string, string>;

const PLAIN = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const PLAIN_METRIC = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

/** A string literal of PromQL. */
export function quote(text: string): string {
  return `"${text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;
}

/** A regular expression that matches the text and nothing else. */
export const escapeRegex = (text: string): string =>
  text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&').replace(/\\([/-])/g, '$1');

export const labelName = (name: string): string => (PLAIN.test(name) ? name : quote(name));

/** `name{a="b"}`, in the order of names: valid PromQL. */
export function seriesName(labels: Labels): string {
  const name = labels.__name__ ?? '';
  const rest = Object.keys(labels)
    .filter((key) => key !== '__name__')
    .sort()
    .map((key) => `${labelName(key)}=${quote(labels[key]!)}`);
  if (name !== '' && !PLAIN_METRIC.test(name)) return `{${[quote(name), ...rest].join(', ')}}`;
  if (rest.length === 0) return name === '' ? '{}' : name;
  return `${name}{${rest.join(', ')}}`;
}

/** The part of a label set in which the series of an answer differ: what a legend needs to say. */
export function varyingLabels(all: Labels[]): Set<string> {
  const first = all[0];
  const varying = new Set<string>();
  if (!first) return varying;
  for (const labels of all) {
    for (const key of Object.keys(labels)) if (labels[key] !== first[key]) varying.add(key);
    for (const key of Object.keys(first)) if (labels[key] !== first[key]) varying.add(key);
  }
  return varying;
}

/** A legend by template: `{{label}}` becomes its value. */
export function legendText(template: string | undefined, labels: Labels): string {
  if (!template || template === '__auto') return seriesName(labels);
  return template.replace(/\{\{\s*([^}]+?)\s*\}\}/g, (_, key: string) => labels[key] ?? '');
}

/** Adds a matcher to every selector of a plain expression: `name`, `name{...}` or `{...}`. Null where it is more. */
export function withMatcher(expression: string, key: string, op: '=' | '!=', value: string): string | null {
  const selector = /^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{([^{}]*)\})?\s*$/.exec(expression);
  if (!selector || (!selector[1] && selector[2] === undefined)) return null;
  const inner = (selector[2] ?? '').trim().replace(/,$/, '');
  const matcher = `${labelName(key)}${op}${quote(value)}`;
  return `${selector[1] ?? ''}{${inner === '' ? matcher : `${inner}, ${matcher}`}}`;
}
