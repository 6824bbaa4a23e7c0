//! Every seed that ever failed, and ranges of seeds as people write them.

use std::ops::RangeInclusive;

const TEXT: &str = include_str!("../../corpus/seeds.txt");

/// The seeds of the corpus, in its order.
pub fn seeds() -> Vec<u64> {
    parse(TEXT).unwrap_or_default()
}

fn parse(text: &str) -> Result<Vec<u64>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().map_err(|_| line.to_owned())).collect()
}

/// Reads `7`, `1..100` (the last one included) or `1..=100`.
pub fn parse_range(text: &str) -> Result<RangeInclusive<u64>, RangeError> {
    let wrong = || RangeError { text: text.to_owned() };
    let number = |part: &str| part.trim().parse::<u64>().map_err(|_| wrong());
    let range = match text.split_once("..") {
        None => number(text)?..=number(text)?,
        Some((first, last)) => number(first)?..=number(last.strip_prefix('=').unwrap_or(last))?,
    };
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

/// Text that is no range of seeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of seeds; write 7 or 1..100")]
pub struct RangeError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_readable() {
        let parsed = parse(TEXT).expect("every line is a number and a comment");
        assert_eq!(
            parsed.len(),
            TEXT.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).count()
        );
        assert_eq!(parse("7 # why\n\n# no\n9"), Ok(vec![7, 9]));
        assert_eq!(parse("x"), Err("x".to_owned()));
    }

    #[test]
    fn ranges_are_read_as_people_write_them() {
        assert_eq!(parse_range("7"), Ok(7..=7));
        assert_eq!(parse_range("1..100"), Ok(1..=100));
        assert_eq!(parse_range("1..=3"), Ok(1..=3));
        for wrong in ["", "x", "3..1", "1..", "..4", "1-4"] {
            parse_range(wrong).expect_err(wrong);
        }
    }
}
