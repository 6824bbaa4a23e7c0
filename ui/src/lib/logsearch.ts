// The search language of logs, as far as a page has to know it: its tokens, for colours and completion; how a name or a
// value is written in it; and how a filter joins a search. What is right and wrong is the server's to say.

export type TokenKind = 'space' | 'field' | 'operator' | 'word' | 'number' | 'text' | 'regex' | 'keyword' | 'mark';

export interface Token {
  kind: TokenKind;
  from: number;
  to: number;
}

const OPERATOR = /^(:(?:~|=|>=|<=|>|<)?|!=|>=|<=|=|>|<)/;
const REGEX = /^\/(?:[^/\\]|\\[\s\S])+\/i?(?=[\s()]|$)/;
const WORD = /^(?:\\[\s\S]|[^\s()[\]{}"\\])+/;
const NAME = /^(?:\\[\s\S]|[^\s()[\]{}"\\:=<>!])+(?=:|=|<|>|!=)/;
const QUOTED = /^"(?:\\[\s\S]|[^"\\])*"?/;

/** The token at a place. Any text is some token: a page colours what is half written, too. */
export function tokenAt(text: string, from: number): Token {
  const rest = text.slice(from);
  const before = text[from - 1] ?? ' ';
  const isValue = /[:=<>~]/.test(before);
  const make = (kind: TokenKind, length: number): Token => ({ kind, from, to: from + Math.max(length, 1) });
  const space = /^\s+/.exec(rest);
  if (space) return make('space', space[0].length);
  if (/^[()[\]{}]/.test(rest)) return make('mark', 1);
  if (rest[0] === '"') {
    const quoted = QUOTED.exec(rest)![0];
    // A quoted name: `"a b":x`.
    return make(!isValue && /^[:=<>]|^!=/.test(rest.slice(quoted.length)) ? 'field' : 'text', quoted.length);
  }
  const regex = REGEX.exec(rest);
  if (regex) return make('regex', regex[0].length);
  if (!isValue) {
    if (/^-(?=\S)/.test(rest) && /[\s(]/.test(before)) return make('keyword', 1);
    const name = NAME.exec(rest);
    if (name) return make('field', name[0].length);
    // Behind a name only; elsewhere these signs are parts of words.
    const operator = /[\s([{]/.test(before) ? null : OPERATOR.exec(rest);
    if (operator) return make('operator', operator[0].length);
  }
  const word = WORD.exec(rest)?.[0] ?? rest[0]!;
  if (/^(?:AND|OR|NOT|TO)$/.test(word)) return make('keyword', word.length);
  return make(/^[+-]?\d+(?:\.\d+)?$/.test(word) ? 'number' : 'word', word.length);
}

export function tokens(text: string): Token[] {
  const out: Token[] = [];
  for (let at = 0; at < text.length; ) {
    const token = tokenAt(text, at);
    out.push(token);
    at = token.to;
  }
  return out;
}

/** A field's name as a search writes it. */
export const nameText = (name: string): string => name.replace(/[^\p{L}\p{N}_.@/-]|^-/gu, (sign) => `\\${sign}`);

/** A whole value as a search writes it. */
export function valueText(value: string): string {
  if (/^[\p{L}\p{N}_.@][\p{L}\p{N}_.@/-]*$/u.test(value) && !/^(?:AND|OR|NOT|TO)$/.test(value)) return value;
  const escapes: Record<string, string> = { '"': '\\"', '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  return `"${value.replace(/["\\\n\r\t]/g, (sign) => escapes[sign]!)}"`;
}

/** The test that a field has a value, or, for null, that a record does not have the field. */
export const filterText = (field: string, value: string | null): string =>
  value === null ? `-${nameText(field)}:*` : `${nameText(field)}:${valueText(value)}`;

/** The parts that stand beside each other, or null where an OR is among them. */
function parts(search: string): string[] | null {
  const out: string[] = [];
  let depth = 0;
  let from: number | null = null;
  const end = (at: number) => {
    if (from !== null) out.push(search.slice(from, at));
    from = null;
  };
  let negated = false;
  for (const token of tokens(search)) {
    const text = search.slice(token.from, token.to);
    if (depth === 0 && token.kind === 'keyword' && text === 'OR') return null;
    if (depth === 0 && token.kind === 'space') {
      // `NOT x` is one part.
      if (!negated) end(token.from);
      continue;
    }
    if (depth === 0 && token.kind === 'keyword' && text === 'AND') continue;
    negated = depth === 0 && token.kind === 'keyword' && text === 'NOT';
    from ??= token.from;
    if (token.kind === 'mark') depth = Math.max(0, depth + ('([{'.includes(text) ? 1 : -1));
  }
  end(search.length);
  return out;
}

/** A search with one more filter. The same filter is not written twice, and one replaces its opposite. */
export function withFilter(search: string, filter: string, negate = false): string {
  const opposite = (text: string): string => (text.startsWith('-') ? text.slice(1) : `-${text}`);
  const wanted = negate ? opposite(filter) : filter;
  const trimmed = search.trim();
  if (trimmed === '' || trimmed === '*') return wanted;
  const there = parts(trimmed);
  if (!there) return `(${trimmed}) ${wanted}`;
  if (there.includes(wanted)) return trimmed;
  const at = there.indexOf(opposite(wanted));
  if (at >= 0) return there.with(at, wanted).join(' ');
  return `${trimmed} ${wanted}`;
}

/** Finds the bodies that a pattern of the server stands for: `<_>` is anything. */
export function patternFilter(pattern: string): string {
  const pieces = pattern
    .split('<_>')
    .map((piece) => piece.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&').replace(/\n/g, '\\n'));
  return `/^${pieces.join('.+')}$/`;
}

/** Words of a search that are looked for in bodies, for marking them there. */
export function wantedWords(search: string): string[] {
  const words = new Set<string>();
  const list = tokens(search).filter((token) => token.kind !== 'space');
  list.forEach((token, i) => {
    const before = list[i - 1];
    const kept = before && ['operator', 'keyword'].includes(before.kind) && search.slice(before.from, before.to);
    if (kept && kept !== 'AND' && kept !== 'OR') return;
    const text = search.slice(token.from, token.to);
    const word =
      token.kind === 'text'
        ? text.slice(1, -1).replace(/\\([\s\S])/g, '$1')
        : token.kind === 'word' || token.kind === 'number'
          ? text.replace(/^\*|\*$/g, '')
          : '';
    if (word.length > 1) words.add(word);
  });
  return [...words];
}

/** Where the cursor stands: in a name, or in the value of a field; and what is written of it so far. */
export function completionAt(
  search: string,
  cursor: number,
): { kind: 'field' | 'value'; field: string; from: number; typed: string } | null {
  let field = '';
  let expects = false;
  for (const token of tokens(search.slice(0, cursor))) {
    const text = search.slice(token.from, token.to);
    const isLast = token.to >= cursor;
    if (token.kind === 'field') field = text;
    if (token.kind === 'operator') expects = true;
    else if (expects && isLast && ['word', 'number', 'text'].includes(token.kind))
      return { kind: 'value', field: plain(field), from: token.from, typed: plain(text) };
    else expects = false;
    if (!isLast) continue;
    if (token.kind === 'operator') return { kind: 'value', field: plain(field), from: cursor, typed: '' };
    if (token.kind === 'word' || token.kind === 'field')
      return { kind: 'field', field: '', from: token.from, typed: plain(text) };
    if (token.kind === 'regex' || token.kind === 'text') return null;
  }
  return { kind: 'field', field: '', from: cursor, typed: '' };
}

/** A name or value without its quotes and escapes. */
const plain = (text: string): string => text.replace(/^"|"$/g, '').replace(/\\([\s\S])/g, '$1');
