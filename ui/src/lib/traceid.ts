// Ids of traces, as people paste them.

/** A trace id that a text is, as it is written in addresses: 1 to 32 hexadecimal digits, also with the dashes of UUIDs, or
 * a `traceparent`, which names a span, too. Short words can be meant otherwise: `least` digits are wanted. */
export function traceIdOf(text: string, least = 1): { id: string; span?: string } | null {
  const trimmed = text.trim().toLowerCase();
  const parent = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(trimmed);
  if (parent) return { id: parent[1]!, span: parent[2]! };
  const plain = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(trimmed)
    ? trimmed.replaceAll('-', '')
    : trimmed;
  return /^[0-9a-f]{1,32}$/.test(plain) && plain.length >= least && /[^0]/.test(plain) ? { id: plain } : null;
}
