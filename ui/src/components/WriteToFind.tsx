// What to write in a search, and what it finds: the table of the help on a language.

export function WriteToFind({ rows }: { rows: [write: string, find: string][] }) {
  return (
    <table className="facts-table">
      <thead>
        <tr>
          <th>write</th>
          <th>to find</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([write, find]) => (
          <tr key={write}>
            <td>
              <code>{write}</code>
            </td>
            <td>{find}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
