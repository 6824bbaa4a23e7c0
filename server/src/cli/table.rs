//! Tables for people: columns padded to their widest cell, two blanks between.

/// Lays rows out under headings. Columns whose cells are all numbers are set flush right.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column).chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let numeric: Vec<bool> = (0..headings.len())
        .map(|column| !rows.is_empty() && rows.iter().all(|row| cell(row, column).parse::<f64>().is_ok()))
        .collect();
    let line = |cells: Vec<String>| {
        let padded = cells.iter().enumerate().map(|(column, text)| {
            let blanks = " ".repeat(widths[column].saturating_sub(text.chars().count()));
            if numeric[column] { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.iter().map(|h| (*h).to_owned()).collect())];
    lines.extend(rows.iter().map(|row| line((0..headings.len()).map(|column| cell(row, column)).collect())));
    lines.join("\n")
}

/// Bytes with a binary unit and three digits at most.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "5".to_owned()], vec!["longer".to_owned(), "1000".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name       n\na          5\nlonger  1000");
        assert_eq!(table(&["name", "n"], &[]), "name  n");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
    }
}
