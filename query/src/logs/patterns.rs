//! Patterns: templates of lines, mined from what matched.
//!
//! ```text
//! shard:       line ─mask─► "Failed password for <_> from <_> port <_>", counted by bucket
//! coordinator: masked lines of all shards, by count ─merge─► templates whose words mostly agree become one
//! ```
//!
//! A mask depends on its line alone and the merge on the united counts alone, so patterns do not depend on the number of
//! shards. Masked is every word that has a digit, and what stands behind `=`; words are runs between spaces and
//! punctuation. The merge is greedy, from the commonest down: a masked line joins the first pattern with as many words,
//! the same first word, and enough equal words at the same places; where they differ, the pattern has `<_>`.

use std::collections::BTreeMap;

/// What stands for a variable.
pub const WILDCARD: &str = "<_>";

/// Longer lines are masked up to here: what tells lines apart stands at their beginning.
const MAX_LINE_BYTES: usize = 4096;

/// Share of words that have to agree for a masked line to join a pattern.
const SIMILARITY: f64 = 0.6;

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            ',' | ';' | ':' | '=' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '\'' | '|'
        )
}

/// Masks the variables of a line. Only the first line of a text counts.
pub fn mask(line: &str, out: &mut String) {
    out.clear();
    let line = line.lines().next().unwrap_or_default();
    let cut = (0..=MAX_LINE_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let mut rest = &line[..cut];
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if is_separator(c) {
            out.push(c);
            before = c;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        // A full stop ends a sentence, not a value.
        let (word, stop) = match word.strip_suffix('.') {
            Some(bare) if !bare.is_empty() => (bare, "."),
            _ => (word, ""),
        };
        let is_variable = before == '=' || word.bytes().any(|byte| byte.is_ascii_digit());
        if !is_variable {
            out.push_str(word);
        } else if !(out.ends_with("<_>:") || out.ends_with("<_>,")) {
            out.push_str(WILDCARD);
        } else {
            // A list of variables is one.
            out.truncate(out.len() - 1);
        }
        out.push_str(stop);
        before = 'x';
    }
}

/// A pattern and its counts by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The template.
    pub template: String,
    /// Lines in all.
    pub count: u64,
    /// Lines by bucket.
    pub buckets: BTreeMap<u64, u64>,
}

struct Cluster<'a> {
    /// Words and the separators behind them.
    words: Vec<&'a str>,
    pattern: Pattern,
}

/// Words of a template, each with the separators behind it.
fn words(template: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let end = rest
            .find(' ')
            .map_or(rest.len(), |at| at + rest[at..].len() - rest[at..].trim_start_matches(' ').len());
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

/// Merges masked lines into patterns, the commonest first.
pub fn merge(masked: &BTreeMap<String, BTreeMap<u64, u64>>) -> Vec<Pattern> {
    let mut lines: Vec<(&str, u64, &BTreeMap<u64, u64>)> =
        masked.iter().map(|(text, buckets)| (text.as_str(), buckets.values().sum(), buckets)).collect();
    lines.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    // By number of words and the first of them, so that few are compared.
    let mut clusters: BTreeMap<(usize, &str), Vec<Cluster<'_>>> = BTreeMap::new();
    for (text, count, buckets) in lines {
        let words = words(text);
        let candidates = clusters.entry((words.len(), words.first().copied().unwrap_or(""))).or_default();
        let best = candidates
            .iter_mut()
            .map(|cluster| (agreement(&cluster.words, &words), cluster))
            .filter(|(agreement, _)| *agreement >= SIMILARITY)
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        match best {
            Some((_, cluster)) => {
                for (known, word) in cluster.words.iter_mut().zip(&words) {
                    if known != word {
                        *known = if known.ends_with(' ') { "<_> " } else { WILDCARD };
                    }
                }
                cluster.pattern.count += count;
                for (bucket, count) in buckets {
                    *cluster.pattern.buckets.entry(*bucket).or_default() += count;
                }
            }
            None => {
                let pattern = Pattern { template: String::new(), count, buckets: buckets.clone() };
                candidates.push(Cluster { words, pattern });
            }
        }
    }
    let mut patterns: Vec<Pattern> = clusters
        .into_values()
        .flatten()
        .map(|cluster| Pattern { template: cluster.words.concat(), ..cluster.pattern })
        .collect();
    patterns.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.template.cmp(&b.template)));
    patterns
}

/// Share of equal words among those that are no variables on both sides.
fn agreement(a: &[&str], b: &[&str]) -> f64 {
    if a.is_empty() {
        return 1.0;
    }
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len() as f64
}

/// Whether a line is one that a pattern stands for: its parts between the wildcards, in order; what a wildcard stands
/// for is not empty.
pub fn matches(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split(WILDCARD).collect();
    let Some(mut rest) = line.strip_prefix(parts[0]) else { return false };
    for (at, part) in parts.iter().enumerate().skip(1) {
        let is_last = at + 1 == parts.len();
        if is_last && part.is_empty() {
            return !rest.is_empty();
        }
        let Some(first) = rest.chars().next() else { return false };
        let found = match is_last {
            true => {
                rest.ends_with(part).then(|| rest.len() - part.len()).filter(|at| *at >= first.len_utf8())
            }
            false => rest[first.len_utf8()..].find(part).map(|at| at + first.len_utf8()),
        };
        let Some(found) = found else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let mut out = String::new();
        mask(line, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn masks() {
        check(
            "Failed password for root from 10.0.0.1 port 22 ssh2",
            "Failed password for root from <_> port <_> <_>",
        );
        check("took 12ms.", "took <_>.");
        check("user=alice status=ok", "user=<_> status=<_>");
        check("at 10.0.0.1:80, then", "at <_>, then");
        check("(a) [12] \"x1\"", "(a) [<_>] \"<_>\"");
        check("", "");
        check("first\nsecond", "first");
        check("é1 ü", "<_> ü");
        check(&"a".repeat(5000), &"a".repeat(MAX_LINE_BYTES));
    }

    fn merged(lines: &[&str]) -> Vec<(String, u64)> {
        let mut masked: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        for line in lines {
            let mut out = String::new();
            mask(line, &mut out);
            *masked.entry(out).or_default().entry(0).or_default() += 1;
        }
        merge(&masked).into_iter().map(|pattern| (pattern.template, pattern.count)).collect()
    }

    #[test]
    fn lines_of_one_kind_become_one_pattern() {
        let found = merged(&[
            "connection to alpha lost after 5 s",
            "connection to beta lost after 6 s",
            "connection to gamma lost after 7 s",
            "ready",
            "ready",
        ]);
        assert_eq!(found, [("connection to <_> lost after <_> s".to_owned(), 3), ("ready".to_owned(), 2)]);
    }

    #[test]
    fn what_differs_stays_apart() {
        assert_eq!(merged(&["cache hit", "cache miss"]).len(), 2);
        assert_eq!(merged(&["a b c d", "x b c d"]).len(), 2);
        assert_eq!(merged(&[]), []);
    }

    #[test]
    fn patterns_match_their_lines() {
        let check = |pattern: &str, line: &str, expected: bool| {
            assert_eq!(matches(pattern, line), expected, "{pattern} on {line}");
        };
        check("a <_> c", "a b c", true);
        check("a <_> c", "a  c", false);
        check("a <_> c", "a b d c", true);
        check("a <_>", "a b", true);
        check("a <_>", "a ", false);
        check("<_>", "é", true);
        check("<_>", "", false);
        check("<_> b", "a b b", true);
        check("a", "a", true);
        check("a", "ab", false);
        check("", "", true);
    }
}
