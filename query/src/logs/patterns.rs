//! Patterns: templates of lines, mined from what matched.
//!
//! ```text
//! shard:       line ─mask─► "Failed password for <_> from <_> port <_>", counted by bucket
//! coordinator: masked lines of all shards, by count ─merge─► templates whose words mostly agree become one
//! ```
//!
//! A mask depends on its line alone and the merge on the united counts alone, so patterns do not depend on the number of
//! shards. Masked is every word that has a digit, and what stands behind `=` but for truth values; words are runs between
//! spaces and punctuation. The merge is greedy, from the commonest down: a masked line joins the pattern with as many words
//! that it has most words in common with, if these are enough. Where only a few different words stand at a place of a
//! pattern, they tell kinds of lines apart (`opened`, `closed`), so it is split by them; else the place is a variable.

use std::collections::{BTreeMap, BTreeSet};

/// What stands for a variable.
pub const WILDCARD: &str = "<_>";

/// Longer lines are masked up to here: what tells lines apart stands at their beginning.
const MAX_LINE_BYTES: usize = 4096;

/// Share of words that have to agree for a masked line to join a pattern.
const SIMILARITY: f64 = 0.7;

/// At most so many different words at one place tell kinds of lines apart; more are values of a variable.
const MAX_KINDS: usize = 3;

/// Words that say something also where a value stands.
const TELLING: [&str; 3] = ["true", "false", "null"];

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
        let is_telling = TELLING.iter().any(|telling| word.eq_ignore_ascii_case(telling));
        let is_variable = (before == '=' && !is_telling) || word.bytes().any(|byte| byte.is_ascii_digit());
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

/// A masked line: its words, its text, and its lines by bucket.
struct Masked<'a> {
    words: Vec<&'a str>,
    text: &'a str,
    count: u64,
    buckets: &'a BTreeMap<u64, u64>,
}

/// Lines that have most words in common.
struct Cluster<'a> {
    /// Their words, [`WILDCARD`] where they differ.
    words: Vec<&'a str>,
    members: Vec<Masked<'a>>,
}

/// Merges masked lines into patterns, the commonest first.
pub fn merge(masked: &BTreeMap<String, BTreeMap<u64, u64>>) -> Vec<Pattern> {
    let mut patterns: Vec<Pattern> = groups(masked).iter().map(|group| pattern(group)).collect();
    patterns.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.template.cmp(&b.template)));
    patterns
}

/// The masked lines of each pattern.
pub fn members(masked: &BTreeMap<String, BTreeMap<u64, u64>>) -> Vec<Vec<&str>> {
    groups(masked).into_iter().map(|group| group.into_iter().map(|member| member.text).collect()).collect()
}

fn groups(masked: &BTreeMap<String, BTreeMap<u64, u64>>) -> Vec<Vec<Masked<'_>>> {
    let mut lines: Vec<Masked<'_>> = masked
        .iter()
        .map(|(text, buckets)| Masked {
            words: text.split_whitespace().collect(),
            text,
            count: buckets.values().sum(),
            buckets,
        })
        .collect();
    lines.sort_by(|a, b| b.count.cmp(&a.count).then(a.text.cmp(b.text)));
    let mut clusters: BTreeMap<usize, Vec<Cluster<'_>>> = BTreeMap::new();
    for line in lines {
        let candidates = clusters.entry(line.words.len()).or_default();
        let best = candidates
            .iter_mut()
            .map(|cluster| (agreement(&cluster.words, &line.words), cluster))
            .filter(|(agreement, _)| *agreement >= SIMILARITY)
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        match best {
            Some((_, cluster)) => {
                for (known, word) in cluster.words.iter_mut().zip(&line.words) {
                    if known != word {
                        *known = WILDCARD;
                    }
                }
                cluster.members.push(line);
            }
            None => candidates.push(Cluster { words: line.words.clone(), members: vec![line] }),
        }
    }
    let mut groups = Vec::new();
    for cluster in clusters.into_values().flatten() {
        split(cluster.members, &mut groups);
    }
    groups
}

/// Splits lines of one length where few words tell them apart.
fn split<'a>(members: Vec<Masked<'a>>, out: &mut Vec<Vec<Masked<'a>>>) {
    let length = members.first().map_or(0, |first| first.words.len());
    let kinds_at = |place: usize| {
        let kinds: BTreeSet<&str> = members.iter().map(|member| member.words[place]).collect();
        let has_variable = kinds.iter().any(|word| word.contains(WILDCARD));
        (!has_variable && (2..=MAX_KINDS).contains(&kinds.len())).then_some((kinds.len(), place))
    };
    // Each split leaves a place with one word in every part, so this ends after as many as there are words.
    if let Some((_, place)) = (0..length).filter_map(kinds_at).min() {
        let mut parts: BTreeMap<&str, Vec<Masked<'a>>> = BTreeMap::new();
        for member in members {
            parts.entry(member.words[place]).or_default().push(member);
        }
        parts.into_values().for_each(|part| split(part, out));
    } else {
        out.push(members);
    }
}

fn pattern(members: &[Masked<'_>]) -> Pattern {
    let mut pattern = Pattern { template: template(members), count: 0, buckets: BTreeMap::new() };
    for member in members {
        pattern.count += member.count;
        for (bucket, count) in member.buckets {
            *pattern.buckets.entry(*bucket).or_default() += count;
        }
    }
    pattern
}

/// The text of the first line, with a wildcard for each word that is not that of all.
fn template(members: &[Masked<'_>]) -> String {
    let Some(first) = members.first() else { return String::new() };
    let mut out = String::with_capacity(first.text.len());
    let mut rest = first.text;
    for (place, word) in first.words.iter().enumerate() {
        let start = rest.find(word).unwrap_or(0);
        out.push_str(&rest[..start]);
        let is_common = members.iter().all(|member| member.words[place] == *word);
        out.push_str(if is_common { word } else { WILDCARD });
        rest = &rest[start + word.len()..];
    }
    out.push_str(rest);
    out
}

/// Share of equal words.
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
        check("user=alice status=ok on=true", "user=<_> status=<_> on=true");
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
            "connection to delta lost after 7 s",
            "ready",
            "ready",
        ]);
        assert_eq!(found, [("connection to <_> lost after <_> s".to_owned(), 4), ("ready".to_owned(), 2)]);
    }

    #[test]
    fn what_differs_stays_apart() {
        assert_eq!(merged(&["cache hit", "cache miss"]).len(), 2);
        assert_eq!(merged(&["session of user 1 was opened", "session of user 2 was closed"]).len(), 2);
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
