// Names of dashboards in addresses: readable, and never taken twice.

/** A name from a title, with some random letters behind it. */
export function freshUid(title: string): string {
  const words = title
    .normalize('NFKD')
    .replace(/[^\w\s-]/g, '')
    .trim()
    .toLowerCase()
    .replace(/[\s_-]+/g, '-')
    .slice(0, 48)
    .replace(/^-+|-+$/g, '');
  const random = crypto.getRandomValues(new Uint8Array(5));
  const tail = [...random].map((n) => 'abcdefghijkmnpqrstuvwxyz23456789'[n % 32]).join('');
  return `${words || 'dashboard'}-${tail}`;
}
