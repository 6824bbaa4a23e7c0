// Lines of comma-separated values, as RFC 4180 has them.

export function csvLine(texts: string[], separator = ','): string {
  const needs = new RegExp(`["\\n\\r${separator}]`);
  return texts.map((text) => (needs.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(separator);
}
