//! Label sets as numbers: what a registry holds of its series.
//!
//! ```text
//! symbols   0 "__name__"  1 "cpu"  2 "node_cpu_seconds_total"  3 "0"  ...        each text once
//! families  0 (tenant 0: 0 1)  ...                                               tenant and label names
//! series    0 (family 0: 2 3)  ...                                               numbers of its values, as varints
//! ```
//!
//! A series of a dozen labels takes about 80 bytes where its text takes 300: names and nearly all values are those of many
//! series. Series come target by target, so a value is mostly that of the series before, which is tried first; else a
//! hash finds it.
//!
//! Numbers are given in the order in which texts come, hence are equal on all replicas, but never leave the process.

use hashbrown::{HashMap, HashTable};
use protocol::labels::Labels;
use protocol::varint;
use xxhash_rust::xxh3::{Xxh3DefaultBuilder, xxh3_64_with_seed};

use crate::append::{AppendVec, AppendView};

/// Number of a text.
pub type Symbol = u32;

#[derive(Debug)]
struct Family {
    tenant: u32,
    names: Box<[Symbol]>,
}

#[derive(Debug)]
struct Series {
    family: u32,
    /// Symbols of the values, in the order of the family's names.
    values: Box<[u8]>,
}

/// The writer's side.
#[derive(Debug, Default)]
pub struct LabelStore {
    symbols: AppendVec<Box<str>>,
    symbol_numbers: HashTable<Symbol>,
    families: AppendVec<Family>,
    /// By tenant and names.
    family_numbers: HashMap<Box<[u32]>, u32, Xxh3DefaultBuilder>,
    series: AppendVec<Series>,
    /// Tenant and names, and the values, of the series that came last.
    last_family: Vec<u32>,
    last_values: Vec<Symbol>,
    owned_bytes: usize,
}

/// What a reader sees: the series that were there when it was taken.
#[derive(Clone, Debug)]
pub struct LabelStoreView {
    symbols: AppendView<Box<str>>,
    families: AppendView<Family>,
    series: AppendView<Series>,
}

/// A series: its tenant's number and its labels, in order.
#[derive(Clone, Copy)]
pub struct SeriesEntry<'a> {
    symbols: Symbols<'a>,
    family: &'a Family,
    values: &'a [u8],
}

#[derive(Clone, Copy)]
enum Symbols<'a> {
    Store(&'a AppendVec<Box<str>>),
    View(&'a AppendView<Box<str>>),
}

impl<'a> Symbols<'a> {
    fn get(self, symbol: Symbol) -> &'a str {
        let text = match self {
            Self::Store(symbols) => symbols.get(symbol as usize),
            Self::View(symbols) => symbols.get(symbol as usize),
        };
        text.expect("a series names symbols that came before it")
    }
}

/// What an allocation takes beyond what was asked for, about.
const ALLOCATION: usize = 16;

impl LabelStore {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// A series.
    pub fn get(&self, series: u32) -> Option<SeriesEntry<'_>> {
        let Series { family, values } = self.series.get(series as usize)?;
        let family = self.families.get(*family as usize)?;
        Some(SeriesEntry { symbols: Symbols::Store(&self.symbols), family, values })
    }

    /// Adds a series. The bytes are canonical labels; `seed` keeps clients from aiming texts at one place of the table.
    pub fn push(&mut self, tenant: u32, label_bytes: &[u8], seed: u64) {
        let (last_family, last_values) =
            (std::mem::take(&mut self.last_family), std::mem::take(&mut self.last_values));
        let mut family = Vec::with_capacity(last_family.len());
        let mut values = Vec::with_capacity(last_values.len());
        family.push(tenant);
        let mut input = label_bytes;
        let mut next = |store: &mut Self, guess: Option<&Symbol>| {
            let text = varint::read_prefixed(&mut input)?;
            Some(store.symbol(text, guess.copied(), seed))
        };
        // The tenant stands before the names.
        while let Some(name) = next(self, last_family.get(family.len())) {
            family.push(name);
            let value = next(self, last_values.get(values.len()));
            values.push(value.expect("canonical labels were checked: a name has a value"));
        }
        let number = self.family(&family);
        let mut packed = Vec::with_capacity(values.len() * 3);
        values.iter().for_each(|symbol| varint::write_u64(&mut packed, u64::from(*symbol)));
        self.owned_bytes += packed.len() + ALLOCATION;
        self.series.push(Series { family: number, values: packed.into() });
        (self.last_family, self.last_values) = (family, values);
    }

    fn symbol(&mut self, text: &[u8], guess: Option<Symbol>, seed: u64) -> Symbol {
        let symbols = &self.symbols;
        let is_it = |symbol: &Symbol| symbols.get(*symbol as usize).is_some_and(|s| s.as_bytes() == text);
        if let Some(guess) = guess.filter(is_it) {
            return guess;
        }
        let hash = xxh3_64_with_seed(text, seed);
        if let Some(known) = self.symbol_numbers.find(hash, is_it) {
            return *known;
        }
        let rehash = |symbol: &Symbol| {
            let text = symbols.get(*symbol as usize).expect("numbers in the table are given");
            xxh3_64_with_seed(text.as_bytes(), seed)
        };
        let next = u32::try_from(symbols.len()).expect("fewer texts than the series limit allows labels");
        self.symbol_numbers.insert_unique(hash, next, rehash);
        let text = std::str::from_utf8(text).expect("canonical labels were checked");
        self.owned_bytes += text.len() + ALLOCATION;
        self.symbols.push(text.into());
        next
    }

    fn family(&mut self, family: &[u32]) -> u32 {
        if let Some(known) = self.family_numbers.get(family) {
            return *known;
        }
        let next = self.families.len() as u32;
        self.families.push(Family { tenant: family[0], names: family[1..].into() });
        self.family_numbers.insert(family.into(), next);
        self.owned_bytes += 2 * (size_of_val(family) + ALLOCATION);
        next
    }

    /// A view of the series so far.
    pub fn view(&self) -> LabelStoreView {
        LabelStoreView {
            symbols: self.symbols.view(),
            families: self.families.view(),
            series: self.series.view(),
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.symbols.slot_bytes()
            + self.symbol_numbers.allocation_size()
            + self.families.slot_bytes()
            + self.family_numbers.allocation_size()
            + self.series.slot_bytes()
            + self.owned_bytes
    }
}

impl LabelStoreView {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// A series.
    pub fn get(&self, series: u32) -> Option<SeriesEntry<'_>> {
        let Series { family, values } = self.series.get(series as usize)?;
        let family = self.families.get(*family as usize)?;
        Some(SeriesEntry { symbols: Symbols::View(&self.symbols), family, values })
    }

    /// The text of a symbol that a series of this view names.
    pub fn text(&self, symbol: Symbol) -> &str {
        Symbols::View(&self.symbols).get(symbol)
    }
}

impl<'a> SeriesEntry<'a> {
    /// Number of its tenant.
    pub fn tenant(&self) -> u32 {
        self.family.tenant
    }

    /// Numbers of names and values, in the order of labels.
    pub fn symbols(&self) -> impl Iterator<Item = (Symbol, Symbol)> + Clone + use<'a> {
        let mut values = self.values;
        self.family.names.iter().map(move |name| {
            let value = varint::read_u64(&mut values).expect("a series has a value for each name");
            (*name, value as Symbol)
        })
    }

    /// Names and values, in the order of labels.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let symbols = self.symbols;
        self.symbols().map(move |(name, value)| (symbols.get(name), symbols.get(value)))
    }

    /// The value of a label, `None` when absent.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let names = self.symbols();
        let (_, value) = names.into_iter().find(|(symbol, _)| self.symbols.get(*symbol) == name)?;
        Some(self.symbols.get(value))
    }

    /// The labels on their own.
    pub fn labels(&self) -> Labels {
        Labels::from_ascending(self.pairs())
    }

    /// Whether these are its labels, as canonical bytes.
    pub fn is(&self, label_bytes: &[u8]) -> bool {
        let mut input = label_bytes;
        let mut next = || varint::read_prefixed(&mut input);
        let all = self
            .pairs()
            .all(|(name, value)| next() == Some(name.as_bytes()) && next() == Some(value.as_bytes()));
        all && input.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label_sets() -> impl Strategy<Value = Vec<(u32, Labels)>> {
        let pairs = proptest::collection::btree_map("[a-d]{1,2}", "[x-z\0é]{1,3}", 0..6);
        let labels = pairs.prop_map(|pairs| Labels::from_pairs(pairs).expect("valid labels"));
        proptest::collection::vec((0u32..3, labels), 0..80)
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(sets in label_sets(), cut in 0usize..80) {
            let mut store = LabelStore::default();
            let mut early = store.view();
            for (i, (tenant, labels)) in sets.iter().enumerate() {
                if i == cut {
                    early = store.view();
                }
                store.push(*tenant, labels.as_bytes(), 7);
            }
            let late = store.view();
            prop_assert_eq!(late.len(), sets.len());
            prop_assert!(late.get(sets.len() as u32).is_none() && early.get(early.len() as u32).is_none());
            for (i, (tenant, labels)) in sets.iter().enumerate() {
                let views = [Some(&early), Some(&late)].into_iter().flatten();
                let views = views.filter_map(|view| view.get(i as u32));
                for entry in views.chain(store.get(i as u32)) {
                    prop_assert_eq!(entry.tenant(), *tenant);
                    prop_assert_eq!(&entry.labels(), labels);
                    prop_assert!(entry.pairs().eq(labels.iter()));
                    prop_assert!(entry.is(labels.as_bytes()));
                    prop_assert!(!entry.is(labels.with("zz", "x").as_bytes()));
                    for name in ["a", "b", "ab", "e"] {
                        prop_assert_eq!(entry.get(name), labels.get(name));
                    }
                }
            }
        }
    }

    #[test]
    fn a_series_of_a_target_takes_a_fraction_of_its_text() {
        let (mut store, mut text) = (LabelStore::default(), 0);
        for host in 0..100 {
            for metric in 0..100 {
                let instance = format!("node-{host:05}.fra1.example.net:9100");
                let pairs = [
                    ("__name__", format!("node_metric_with_a_long_name_{metric}_total")),
                    ("cluster", "production-europe-1".to_owned()),
                    ("instance", instance),
                    ("job", "node-exporter".to_owned()),
                    ("namespace", "monitoring".to_owned()),
                ];
                let labels = Labels::from_pairs(pairs).expect("valid labels");
                text += labels.as_bytes().len();
                store.push(0, labels.as_bytes(), 1);
            }
        }
        assert!(store.bytes() * 2 < text, "{} bytes for {text} of text", store.bytes());
    }
}
