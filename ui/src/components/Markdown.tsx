// A safe part of Markdown: headings, lists, code, emphasis, links to the web. Everything becomes elements and text;
// nothing that a document holds is read as HTML.

import { Fragment, type ReactNode } from 'react';
import '../style/markdown.css';

const INLINE =
  /(`[^`]+`)|(\*\*[^*]+\*\*)|(\*[^*\s][^*]*\*|_[^_\s][^_]*_)|\[([^\]]*)\]\(([^)\s]+)[^)]*\)|(https?:\/\/[^\s<>)]+)/g;

function inline(text: string): ReactNode[] {
  const out: ReactNode[] = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > at) out.push(text.slice(at, found.index));
    const [whole, code, strong, em, label, target, bare] = found;
    const key = found.index;
    if (code) out.push(<code key={key}>{code.slice(1, -1)}</code>);
    else if (strong) out.push(<strong key={key}>{inline(strong.slice(2, -2))}</strong>);
    else if (em) out.push(<em key={key}>{em.slice(1, -1)}</em>);
    else {
      const href = bare ?? target ?? '';
      // Other schemes, such as javascript:, stay text.
      out.push(
        /^https?:\/\//i.test(href) ? (
          <a key={key} href={href} target="_blank" rel="noreferrer noopener">
            {label || href}
          </a>
        ) : (
          <Fragment key={key}>{label ?? whole}</Fragment>
        ),
      );
    }
    at = found.index + whole.length;
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

export function Markdown({ text }: { text: string }) {
  const blocks: ReactNode[] = [];
  const lines = text.split(/\r?\n/);
  for (let i = 0; i < lines.length; ) {
    const line = lines[i]!;
    const key = i;
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (line.startsWith('```')) {
      const from = ++i;
      while (i < lines.length && !lines[i]!.startsWith('```')) i++;
      blocks.push(
        <pre key={key} className="block">
          {lines.slice(from, i).join('\n')}
        </pre>,
      );
      i++;
    } else if (heading) {
      const level = heading[1]!.length;
      blocks.push(level <= 2 ? <h2 key={key}>{inline(heading[2]!)}</h2> : <h3 key={key}>{inline(heading[2]!)}</h3>);
      i++;
    } else if (/^\s*([-*+]|\d+[.)])\s+/.test(line)) {
      const ordered = /^\s*\d/.test(line);
      const items: ReactNode[] = [];
      while (i < lines.length && /^\s*([-*+]|\d+[.)])\s+/.test(lines[i]!)) {
        items.push(<li key={i}>{inline(lines[i]!.replace(/^\s*([-*+]|\d+[.)])\s+/, ''))}</li>);
        i++;
      }
      blocks.push(ordered ? <ol key={key}>{items}</ol> : <ul key={key}>{items}</ul>);
    } else if (/^\s*(---|\*\*\*)\s*$/.test(line)) {
      blocks.push(<hr key={key} />);
      i++;
    } else if (line.trim() === '') {
      i++;
    } else {
      const from = i;
      while (i < lines.length && lines[i]!.trim() !== '' && !/^(#{1,6}\s|```|\s*([-*+]|\d+[.)])\s)/.test(lines[i]!))
        i++;
      if (i === from) i++;
      blocks.push(<p key={key}>{inline(lines.slice(from, i).join(' '))}</p>);
    }
  }
  return <div className="markdown">{blocks}</div>;
}
