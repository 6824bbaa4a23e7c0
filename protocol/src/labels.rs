//! Label sets in one canonical byte form.
//!
//! A set is a run of `name length, name, value length, value` (lengths as varints), names strictly ascending by
//! bytes, no empty name or value. `__name__` is a label like any other. The bytes are the set: equality and
//! hashing need no decoding, the same bytes travel in batches and enter the series id.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::ids::{ClusterSecret, SLOT_COUNT, SeriesId, SlotId, TenantId};
use crate::varint;

/// Name of the label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Why bytes or pairs are no label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The bytes end inside a label or a length is wrong.
    #[error("label bytes are cut short or malformed")]
    Malformed,
    /// A name or value is not UTF-8.
    #[error("a label name or value is not valid UTF-8")]
    NotUtf8,
    /// A name is empty.
    #[error("a label name is empty")]
    EmptyName,
    /// The same name appears twice.
    #[error("label name {0:?} appears twice")]
    Duplicate(String),
    /// Names are not ascending, or a value is empty, where canonical bytes were due.
    #[error("labels are not in canonical order near {0:?}")]
    NotCanonical(String),
}

/// An immutable label set in canonical form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts the pairs, drops empty values (they mean absence) and refuses doubled or empty names.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelsError> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value.as_ref());
        }
        builder.finish()
    }

    /// As [`Self::from_pairs`], for text that lies elsewhere already: sorts `pairs` in place and copies once.
    pub fn from_borrowed(pairs: &mut [(&str, &str)]) -> Result<Self, LabelsError> {
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_unstable();
        }
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(LabelsError::Duplicate(pair[0].0.to_owned()));
        }
        if pairs.first().is_some_and(|(name, _)| name.is_empty()) {
            return Err(LabelsError::EmptyName);
        }
        let len = pairs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let mut out = Vec::with_capacity(len);
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            varint::write_prefixed(&mut out, name.as_bytes());
            varint::write_prefixed(&mut out, value.as_bytes());
        }
        Ok(Self(out.into()))
    }

    /// From the pairs of a set taken apart before: names ascend, nothing is empty.
    ///
    /// # Panics
    /// When they do not, or something is.
    pub fn from_ascending<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let mut out =
            Vec::with_capacity(pairs.clone().map(|(name, value)| name.len() + value.len() + 4).sum());
        let mut before = "";
        for (name, value) in pairs {
            assert!(before < name && !value.is_empty(), "the labels of a set ascend and are not empty");
            varint::write_prefixed(&mut out, name.as_bytes());
            varint::write_prefixed(&mut out, value.as_bytes());
            before = name;
        }
        Self(out.into())
    }

    /// Takes bytes that claim to be canonical, checking all of the form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, LabelsError> {
        Self::check_canonical(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Checks that bytes are canonical, without keeping them.
    pub fn check_canonical(bytes: &[u8]) -> Result<(), LabelsError> {
        // Lengths below 128 are characters of their own: where the whole is text, so is what lies between them.
        let is_text = std::str::from_utf8(bytes).is_ok();
        let check = |text: &[u8]| match is_text && text.len() < 0x80 {
            true => Ok(()),
            false => std::str::from_utf8(text).map(drop).map_err(|_| LabelsError::NotUtf8),
        };
        let mut input = bytes;
        let mut previous: Option<&[u8]> = None;
        while !input.is_empty() {
            let name = read_text(&mut input)?;
            let value = read_text(&mut input)?;
            check(name)?;
            check(value)?;
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if value.is_empty() || previous.is_some_and(|p| p >= name) {
                return Err(LabelsError::NotCanonical(String::from_utf8_lossy(name).into_owned()));
            }
            previous = Some(name);
        }
        Ok(())
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { input: &self.0 }
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The value of a label, `None` when absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Names ascend: what is not there is not looked for to the end.
        let mut pairs = RawPairs(&self.0).skip_while(|(n, _)| *n < name.as_bytes());
        pairs.next().filter(|(n, _)| *n == name.as_bytes()).map(|(_, value)| text(value))
    }

    /// The metric's name, `""` when absent.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// The labels of which `keep` says yes.
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut out = Vec::with_capacity(self.0.len());
        let mut pairs = RawPairs(&self.0);
        loop {
            let from = pairs.0;
            let Some((name, _)) = pairs.next() else { return Self(out.into()) };
            if keep(text(name)) {
                out.extend_from_slice(&from[..from.len() - pairs.0.len()]);
            }
        }
    }

    /// The set without its metric name.
    pub fn without_name(&self) -> Self {
        self.filtered(|name| name != METRIC_NAME)
    }

    /// The set with one label set, or removed where the value is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = LabelsBuilder::default();
        for (n, v) in self {
            if n != name {
                builder.push(n, v);
            }
        }
        if !name.is_empty() {
            builder.push(name, value);
        }
        builder.finish().expect("names of a label set are unique and not empty")
    }

    /// Identity of the series that these labels name for a tenant.
    pub fn series_id(&self, secret: &ClusterSecret, tenant: &TenantId) -> SeriesId {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(&(tenant.as_str().len() as u64).to_le_bytes());
        hasher.update(tenant.as_str().as_bytes());
        hasher.update(&self.0);
        SeriesId(u128::from_le_bytes(first_16(&hasher.finalize())))
    }

    /// Identity and slot at once; as a rule both come from one hash.
    pub fn series_id_and_slot(&self, secret: &ClusterSecret, tenant: &TenantId) -> (SeriesId, SlotId) {
        let id = self.series_id(secret, tenant);
        match self.get("le") {
            None => (id, id.slot_of_whole_labels()),
            Some(_) => (id, self.slot(secret, tenant)),
        }
    }

    /// Slot of the series: hashed without `le`, so that the buckets of a classic histogram stay together.
    pub fn slot(&self, secret: &ClusterSecret, tenant: &TenantId) -> SlotId {
        let id = match self.get("le") {
            None => self.series_id(secret, tenant),
            Some(_) => self.filtered(|name| name != "le").series_id(secret, tenant),
        };
        id.slot_of_whole_labels()
    }
}

impl SeriesId {
    /// The slot, where the id was made from all labels that count for the slot (there is no `le`).
    pub fn slot_of_whole_labels(self) -> SlotId {
        SlotId((self.0 >> 64) as u16 % SLOT_COUNT)
    }
}

/// Reads a name or value whose length is written in the fewest bytes: a set has one form only.
fn read_text<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], LabelsError> {
    let before = *input;
    let text = varint::read_prefixed(input).ok_or(LabelsError::Malformed)?;
    let length = &before[..before.len() - input.len() - text.len()];
    match length {
        [_, .., 0] => Err(LabelsError::Malformed),
        _ => Ok(text),
    }
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

/// Prometheus' order: label by label, names first, then values; a prefix sorts before its extension.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (&*self.0, &*other.0);
        let common = common_prefix(ours, theirs);
        if common == ours.len() || common == theirs.len() {
            return ours.len().cmp(&theirs.len());
        }
        // The texts before the one in which they differ are the same ones.
        let (mut rest, mut at) = (ours, 0);
        loop {
            let our_text = varint::read_prefixed(&mut rest).expect("canonical form was checked");
            let end = ours.len() - rest.len();
            if common < end {
                let their_text =
                    varint::read_prefixed(&mut &theirs[at..]).expect("canonical form was checked");
                // UTF-8 sorts as its characters do.
                return our_text.cmp(their_text);
            }
            at = end;
        }
    }
}

/// How many bytes two byte strings begin with that are the same.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (our_words, their_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let words = 8 * our_words.iter().zip(their_words).take_while(|(x, y)| x == y).count();
    words + a[words..].iter().zip(&b[words..]).take_while(|(x, y)| x == y).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Walks the bytes of a label set: names and values are compared, copied and skipped without another look at whether
/// they are text.
struct RawPairs<'a>(&'a [u8]);

impl<'a> Iterator for RawPairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let name = varint::read_prefixed(&mut self.0).expect("canonical form was checked");
        let value = varint::read_prefixed(&mut self.0).expect("canonical form was checked");
        Some((name, value))
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("canonical form was checked")
}

/// Walks a label set.
#[derive(Clone)]
pub struct LabelsIter<'a> {
    input: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut pairs = RawPairs(self.input);
        let (name, value) = pairs.next()?;
        self.input = pairs.0;
        Some((text(name), text(value)))
    }
}

/// Collects labels in any order.
#[derive(Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Adds a label.
    pub fn push(&mut self, name: &str, value: &str) {
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Sorts, drops empty values, refuses doubled or empty names.
    pub fn finish(mut self) -> Result<Labels, LabelsError> {
        self.pairs.sort();
        let mut out = Vec::new();
        for (i, (name, value)) in self.pairs.iter().enumerate() {
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if i > 0 && self.pairs[i - 1].0 == *name {
                return Err(LabelsError::Duplicate(name.clone()));
            }
            if !value.is_empty() {
                varint::write_prefixed(&mut out, name.as_bytes());
                varint::write_prefixed(&mut out, value.as_bytes());
            }
        }
        Ok(Labels(out.into()))
    }
}

/// As PromQL writes it: `name{a="b"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut open = false;
        for (name, value) in self.iter().filter(|(n, _)| *n != METRIC_NAME) {
            f.write_str(if open { ", " } else { "{" })?;
            write!(f, "{name}={value:?}")?;
            open = true;
        }
        if open || self.metric_name().is_empty() {
            f.write_str(if open { "}" } else { "{}" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
    }

    #[test]
    fn sorts_and_drops_empty_values() {
        let set = labels(&[("b", "2"), ("__name__", "m"), ("a", "1"), ("c", "")]);
        assert_eq!(set.to_string(), r#"m{a="1", b="2"}"#);
        assert_eq!(set.get("c"), None);
        assert_eq!(Labels::from_canonical(set.as_bytes()), Ok(set));
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        assert_eq!(Labels::from_pairs([("a", "1"), ("a", "2")]), Err(LabelsError::Duplicate("a".into())));
        assert_eq!(Labels::from_pairs([("", "1")]), Err(LabelsError::EmptyName));
        assert_eq!(Labels::from_canonical(&[1, b'a', 0]), Err(LabelsError::NotCanonical("a".into())));
        assert_eq!(Labels::from_canonical(&[1, b'a', 9, b'x']), Err(LabelsError::Malformed));
        // A length in more bytes than it needs would give one set two forms, hence two ids.
        assert_eq!(Labels::from_canonical(&[0x81, 0, b'a', 1, b'x']), Err(LabelsError::Malformed));
    }

    #[test]
    fn buckets_share_a_slot() {
        let (secret, tenant) = (ClusterSecret([7; 32]), TenantId::default());
        let plain = labels(&[("__name__", "h_bucket"), ("job", "x")]);
        for le in ["0.1", "1", "+Inf"] {
            let bucket = plain.with("le", le);
            assert_eq!(bucket.slot(&secret, &tenant), plain.slot(&secret, &tenant));
            let expected = (bucket.series_id(&secret, &tenant), plain.slot(&secret, &tenant));
            assert_eq!(bucket.series_id_and_slot(&secret, &tenant), expected);
        }
    }

    proptest! {
        #[test]
        fn looks_up_and_filters_as_a_list_of_pairs_does(of in pairs(), name in "[a-c]{1,2}") {
            let set = Labels::from_pairs(of.clone()).expect("valid labels");
            prop_assert_eq!(set.get(&name), of.get(&name).map(String::as_str));
            let kept: Vec<_> = of.iter().filter(|(n, _)| **n != name).collect();
            prop_assert_eq!(set.filtered(|n| n != name), Labels::from_pairs(kept).expect("valid labels"));
        }

        #[test]
        fn sets_sort_as_their_pairs_do(
            mut a in proptest::collection::btree_map("[a-c]{1,9}", "[a-cä]{1,2}|x{120,140}[ab]?", 0..6),
            edits in proptest::collection::vec(("[a-c]{1,9}", "[a-cä]{0,2}|x{120,140}"), 0..3),
        ) {
            let one = Labels::from_pairs(a.clone()).expect("valid labels");
            let before = a.clone();
            a.extend(edits);
            a.retain(|_, value| !value.is_empty());
            let other = Labels::from_pairs(a.clone()).expect("valid labels");
            prop_assert_eq!(one.cmp(&other), before.cmp(&a), "{} and {}", one, other);
            prop_assert_eq!(other.cmp(&one), a.cmp(&before));
            prop_assert_eq!(Labels::from_canonical(other.as_bytes()), Ok(other));
        }

        #[test]
        fn only_text_is_taken(long in 0..300usize, at in 0..300usize) {
            let value: String = "äx".chars().cycle().take(long + 1).collect();
            let mut bytes = Labels::from_pairs([("a", value.as_str()), ("b", "1")]).unwrap().as_bytes().to_vec();
            let place = 2 + usize::from(value.len() >= 0x80) + 1 + at % value.len();
            bytes[place] = 0xff;
            prop_assert_eq!(Labels::from_canonical(&bytes), Err(LabelsError::NotUtf8));
            // A text that ends within a character, and the next begins with its rest.
            prop_assert_eq!(Labels::from_canonical(&[1, b'a', 1, 0xc3, 1, 0xa4, 1, b'x']), Err(LabelsError::NotUtf8));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
            if let Ok(set) = Labels::from_canonical(&bytes) {
                prop_assert_eq!(set.iter().count(), set.len());
            }
        }

        #[test]
        fn borrowed_pairs_make_the_same_set(pairs in proptest::collection::vec(("[a-c]{0,2}", "[a-c]{0,3}"), 0..5)) {
            let mut borrowed: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            // Which of two offences is told first does not matter.
            let (ours, theirs) = (Labels::from_borrowed(&mut borrowed).ok(), Labels::from_pairs(pairs.clone()).ok());
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn orders_as_pair_lists_do(a in pairs(), b in pairs()) {
            let (x, y) = (Labels::from_pairs(a.clone()).unwrap(), Labels::from_pairs(b.clone()).unwrap());
            prop_assert_eq!(x.cmp(&y), a.into_iter().collect::<Vec<_>>().cmp(&b.into_iter().collect::<Vec<_>>()));
        }
    }

    fn pairs() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-c]{1,2}", "[a-c]{1,3}", 0..4)
    }
}
