// Files that a page gives to whoever looks at it.

export function saveAs(name: string, content: BlobPart, type: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], { type }));
  // What browsers and file systems have other uses for.
  link.download = name.replace(/[^\p{L}\p{N} ._-]/gu, '_').slice(0, 120);
  link.click();
  // A browser may read it a moment later.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
