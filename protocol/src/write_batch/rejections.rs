//! What of a request was not written, for the client to read.

use std::fmt;

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Float samples.
    Sample,
    /// Histogram samples.
    Histogram,
    /// Exemplars.
    Exemplar,
    /// Metadata of families.
    Metadata,
}

/// How many offences are told in words. The rest is counted.
const MAX_EXAMPLES: usize = 5;

/// Longest text of an offence.
const MAX_EXAMPLE_BYTES: usize = 400;

/// Counts of rows that were refused, and the first offences in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Series of which nothing was written. Their rows are counted too.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata of families.
    pub metadata: u64,
    offences: u64,
    examples: Vec<String>,
}

impl Rejections {
    /// Counts refused rows of one kind. `describe` names the offence; it is called only while words are kept.
    pub fn add(&mut self, kind: RowKind, rows: u64, describe: impl FnOnce() -> String) {
        match kind {
            RowKind::Sample => self.samples += rows,
            RowKind::Histogram => self.histograms += rows,
            RowKind::Exemplar => self.exemplars += rows,
            RowKind::Metadata => self.metadata += rows,
        }
        self.note(describe);
    }

    /// Counts a refused series with its samples, histograms and exemplars.
    pub fn add_series(&mut self, rows: [u64; 3], describe: impl FnOnce() -> String) {
        let [samples, histograms, exemplars] = rows;
        self.series += 1;
        self.samples += samples;
        self.histograms += histograms;
        self.exemplars += exemplars;
        self.note(describe);
    }

    /// Counts refused rows of all kinds that one offence is to blame for.
    pub fn add_rows(&mut self, rows: [u64; 3], describe: impl FnOnce() -> String) {
        self.add_series(rows, describe);
        self.series -= 1;
    }

    fn note(&mut self, describe: impl FnOnce() -> String) {
        self.offences += 1;
        if self.examples.len() < MAX_EXAMPLES {
            let mut text = describe();
            if text.len() > MAX_EXAMPLE_BYTES {
                text.truncate(text.floor_char_boundary(MAX_EXAMPLE_BYTES));
                text.push_str("...");
            }
            self.examples.push(text);
        }
    }

    /// Adds what another part of the way refused.
    pub fn merge(&mut self, other: &Self) {
        self.series += other.series;
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.metadata += other.metadata;
        self.offences += other.offences;
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(other.examples.iter().take(room).cloned());
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.offences == 0
    }

    /// The first offences, in words.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }
}

impl fmt::Display for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.series, "series"),
            (self.samples, "samples"),
            (self.histograms, "histograms"),
            (self.exemplars, "exemplars"),
            (self.metadata, "metadata entries"),
        ];
        let mut any = false;
        for (count, name) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{}{count} {name}", if any { ", " } else { "" })?;
            any = true;
        }
        write!(f, "{}rejected", if any { " " } else { "" })?;
        for (i, example) in self.examples.iter().enumerate() {
            write!(f, "{} {example}", if i == 0 { ":" } else { ";" })?;
        }
        match self.offences - self.examples.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_tells_the_first() {
        let mut rejections = Rejections::default();
        assert!(rejections.is_empty());
        for i in 0..7 {
            rejections.add(RowKind::Sample, 2, || format!("offence {i}"));
        }
        let mut others = Rejections::default();
        others.add_series([1, 1, 0], || "a series".into());
        rejections.merge(&others);
        assert_eq!(
            rejections.to_string(),
            "1 series, 15 samples, 1 histograms rejected: offence 0; offence 1; offence 2; offence 3; offence 4; \
             and 3 more"
        );
    }

    #[test]
    fn a_long_offence_is_cut() {
        let mut rejections = Rejections::default();
        rejections.add(RowKind::Metadata, 1, || "ä".repeat(1000));
        assert!(rejections.to_string().len() < 500);
    }
}
