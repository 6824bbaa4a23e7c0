//! The index over a registry: which series match, and in which order they are visited.
//!
//! Per tenant and label name it holds the distinct values in order, each with a posting list of ordinals; regular
//! expressions run over the values, never over the series. Beside that each series has a rank in label order and the
//! number of its family (metric and set of label names), from which the order of segments follows.
//!
//! The index belongs to a generation and only grows. Whoever asks first extends it to the series it sees, under a
//! lock; a reader whose view is older cuts what it gets at its own number of series. Writers never touch it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashMap;
use protocol::labels::METRIC_NAME;
use protocol::matcher::Matcher;
use protocol::varint;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::label_store::Symbol;
use super::{RegistryView, SeriesEntry};

/// As many ordinals are walked over in the time that sorting takes for one.
const WALKED: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct LiveIndex {
    state: RwLock<State>,
    /// Bytes of `state` when it was last extended.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Series with lower ordinals are indexed.
    indexed: usize,
    tenants: Vec<TenantIndex>,
    /// Ordinals by (tenant name, labels).
    by_labels: Vec<u32>,
    /// Position of each ordinal in `by_labels`.
    rank: Vec<u32>,
    /// Family of each ordinal.
    family_of: Vec<u32>,
    families: HashMap<Box<[u8]>, u32, Xxh3DefaultBuilder>,
}

#[derive(Debug, Default)]
struct TenantIndex {
    /// Bytes of names, values and postings: counted as they come, since asking is frequent.
    bytes: usize,
    all: Postings,
    /// By name and value: positions in `lists`.
    names: BTreeMap<Box<str>, BTreeMap<Box<str>, u32>>,
    lists: Vec<Postings>,
    /// The same positions by the numbers of name and value: what a series that comes is added with.
    by_symbols: HashMap<(Symbol, Symbol), u32, Xxh3DefaultBuilder>,
}

/// Ascending ordinals as varint differences: most label pairs belong to many series, close together.
#[derive(Debug, Default)]
struct Postings {
    bytes: Vec<u8>,
    count: u32,
    next: u32,
}

impl Postings {
    /// Returns by how many bytes the list grew.
    fn push(&mut self, ordinal: u32) -> usize {
        let before = self.bytes.len();
        varint::write_u64(&mut self.bytes, u64::from(ordinal - self.next));
        self.next = ordinal + 1;
        self.count += 1;
        self.bytes.len() - before
    }

    fn read(&self, out: &mut Vec<u32>) {
        out.reserve(self.count as usize);
        let (mut input, mut next) = (&self.bytes[..], 0);
        while let Some(delta) = varint::read_u64(&mut input) {
            next += delta as u32;
            out.push(next);
            next += 1;
        }
    }
}

impl LiveIndex {
    /// Ordinals of the tenant's series that match, in label order.
    pub fn matching(&self, view: &RegistryView, tenant: u32, matchers: &[Matcher]) -> Vec<u32> {
        let state = self.extended(view);
        let Some(index) = state.tenants.get(tenant as usize) else { return Vec::new() };
        let mut found = index.matching(view, matchers);
        found.retain(|&ordinal| (ordinal as usize) < view.len());
        state.in_label_order(found)
    }

    /// Visits each label pair of a tenant's series, by name and value, with the number of series that have it; returns
    /// how many series there are. The counts are kept as series come: no series is looked at.
    pub fn pairs(&self, view: &RegistryView, tenant: u32, visit: &mut dyn FnMut(&str, &str, u64)) -> u64 {
        let state = self.extended(view);
        let Some(index) = state.tenants.get(tenant as usize) else { return 0 };
        for (name, values) in &index.names {
            for (value, list) in values {
                visit(name, value, u64::from(index.lists[*list as usize].count));
            }
        }
        u64::from(index.all.count)
    }

    /// All ordinals of the view by (tenant, family, labels): the order of segments.
    pub fn in_segment_order(&self, view: &RegistryView) -> Vec<u32> {
        let state = self.extended(view);
        let family_rank = {
            let mut families: Vec<(&[u8], u32)> =
                state.families.iter().map(|(key, &n)| (&key[..], n)).collect();
            families.sort_unstable();
            let mut rank = vec![0u32; families.len()];
            for (position, (_, family)) in families.into_iter().enumerate() {
                rank[family as usize] = position as u32;
            }
            rank
        };
        let mut order: Vec<u32> = (0..view.len() as u32).collect();
        order.sort_unstable_by_key(|&ordinal| {
            let at = ordinal as usize;
            u64::from(family_rank[state.family_of[at] as usize]) << 32 | u64::from(state.rank[at])
        });
        order
    }

    fn extended(&self, view: &RegistryView) -> RwLockReadGuard<'_, State> {
        loop {
            // A panic under the lock can leave the state half extended only if memory ran out: carry on as before it.
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.indexed >= view.len() {
                return state;
            }
            drop(state);
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.extend(view);
            let bytes = 12 * state.indexed + state.tenants.iter().map(|tenant| tenant.bytes).sum::<usize>();
            self.bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

impl State {
    /// Sorts ordinals: by their ranks, or where they are many by one walk over all.
    fn in_label_order(&self, mut ordinals: Vec<u32>) -> Vec<u32> {
        if ordinals.len().saturating_mul(WALKED) < self.by_labels.len() {
            ordinals.sort_unstable_by_key(|&ordinal| self.rank[ordinal as usize]);
            return ordinals;
        }
        let mut wanted = vec![0u64; self.by_labels.len().div_ceil(64)];
        ordinals.iter().for_each(|&o| wanted[o as usize / 64] |= 1 << (o % 64));
        ordinals.clear();
        ordinals.extend(self.by_labels.iter().filter(|&&o| wanted[o as usize / 64] >> (o % 64) & 1 == 1));
        ordinals
    }

    fn extend(&mut self, view: &RegistryView) {
        let start = self.indexed;
        if start >= view.len() {
            return;
        }
        let mut arena = Vec::new();
        let mut added: Vec<(usize, usize, u32)> = Vec::with_capacity(view.len() - start);
        let mut family_key = Vec::new();
        for ordinal in start as u32..view.len() as u32 {
            let Some(entry) = view.entry(ordinal) else { break };
            let tenant = entry.tenant() as usize;
            if self.tenants.len() <= tenant {
                self.tenants.resize_with(tenant + 1, TenantIndex::default);
            }
            self.tenants[tenant].add(ordinal, entry);

            let tenant_name = view.tenant(entry.tenant()).as_str();
            write_family_key(&mut family_key, tenant_name, entry);
            let next = self.families.len() as u32;
            let family = match self.families.get(&family_key[..]) {
                Some(&family) => family,
                None => {
                    self.families.insert(family_key.as_slice().into(), next);
                    next
                }
            };
            self.family_of.push(family);

            let from = arena.len();
            write_sort_key(&mut arena, tenant_name, entry);
            added.push((from, arena.len(), ordinal));
        }
        let key = |&(from, to, _): &(usize, usize, u32)| &arena[from..to];
        added.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        self.merge_sorted(view, &added, &arena);
        self.indexed = view.len();
    }

    /// Merges newly sorted ordinals into the order: a binary search for each, then one pass.
    fn merge_sorted(&mut self, view: &RegistryView, added: &[(usize, usize, u32)], arena: &[u8]) {
        let old = std::mem::take(&mut self.by_labels);
        let mut merged = Vec::with_capacity(old.len() + added.len());
        let (mut taken, mut scratch) = (0, Vec::new());
        for &(from, to, ordinal) in added {
            let key = &arena[from..to];
            let rest = &old[taken..];
            let before = rest.partition_point(|&other| {
                let entry = view.entry(other).expect("indexed ordinals are registered");
                scratch.clear();
                write_sort_key(&mut scratch, view.tenant(entry.tenant()).as_str(), entry);
                scratch.as_slice() < key
            });
            merged.extend_from_slice(&rest[..before]);
            merged.push(ordinal);
            taken += before;
        }
        merged.extend_from_slice(&old[taken..]);
        self.rank.resize(merged.len(), 0);
        for (position, &ordinal) in merged.iter().enumerate() {
            self.rank[ordinal as usize] = position as u32;
        }
        self.by_labels = merged;
    }
}

impl TenantIndex {
    fn add(&mut self, ordinal: u32, series: SeriesEntry<'_>) {
        self.bytes += self.all.push(ordinal);
        for (symbols, (name, value)) in series.symbols().zip(series.pairs()) {
            let list = match self.by_symbols.get(&symbols) {
                Some(list) => *list,
                None => {
                    let list = self.lists.len() as u32;
                    self.lists.push(Postings::default());
                    self.by_symbols.insert(symbols, list);
                    if !self.names.contains_key(name) {
                        self.names.insert(name.into(), BTreeMap::new());
                    }
                    let values = self.names.get_mut(name).expect("inserted above");
                    values.insert(value.into(), list);
                    self.bytes += value.len()
                        + size_of::<(Box<str>, u32)>()
                        + size_of::<Postings>()
                        + size_of::<((Symbol, Symbol), u32)>();
                    list
                }
            };
            self.bytes += self.lists[list as usize].push(ordinal);
        }
    }

    /// Ordinals that meet all matchers, ascending.
    fn matching(&self, view: &RegistryView, matchers: &[Matcher]) -> Vec<u32> {
        // A matcher that refuses the empty value gives a set to intersect with; one that takes it (so that series
        // without the label pass) gives a set to take away: those whose value it refuses.
        let mut wanted: Vec<(u64, &Matcher, Vec<&Postings>)> = Vec::new();
        let mut unwanted = Vec::new();
        for matcher in matchers {
            let values = self.names.get(matcher.name());
            let list = |list: &u32| &self.lists[*list as usize];
            if matcher.matches_absent() {
                let refused = values.into_iter().flatten().filter(|(value, _)| !matcher.matches(value));
                unwanted.push((matcher, refused.map(|(_, at)| list(at)).collect::<Vec<_>>()));
                continue;
            }
            let Some(values) = values else { return Vec::new() };
            let passing: Vec<&Postings> = match matcher.finite_values() {
                Some(finite) => finite.iter().filter_map(|value| values.get(*value)).map(list).collect(),
                None => values
                    .iter()
                    .filter(|(value, _)| matcher.matches(value))
                    .map(|(_, at)| list(at))
                    .collect(),
            };
            wanted.push((count(&passing), matcher, passing));
        }
        wanted.sort_by_key(|(count, ..)| *count);
        let mut wanted = wanted.into_iter();
        let mut found = match wanted.next() {
            Some((_, _, smallest)) => union(&smallest),
            None => union(&[&self.all]),
        };
        for (count, matcher, passing) in wanted {
            narrow(&mut found, view, matcher, count, &passing, true);
        }
        for (matcher, refused) in unwanted {
            narrow(&mut found, view, matcher, count(&refused), &refused, false);
        }
        found
    }
}

fn count(lists: &[&Postings]) -> u64 {
    lists.iter().map(|p| u64::from(p.count)).sum()
}

/// Lists of one label name hold different series, so that sorting is all there is to do.
fn union(lists: &[&Postings]) -> Vec<u32> {
    let mut out = Vec::with_capacity(count(lists) as usize);
    lists.iter().for_each(|list| list.read(&mut out));
    if lists.len() > 1 {
        out.sort_unstable();
    }
    out
}

/// Keeps those of `found` that are in the lists (or are not, for `keep == false`). Few candidates are asked for
/// their labels instead of reading long lists.
fn narrow(
    found: &mut Vec<u32>,
    view: &RegistryView,
    matcher: &Matcher,
    count: u64,
    lists: &[&Postings],
    keep: bool,
) {
    if found.is_empty() || (lists.is_empty() && !keep) {
        return;
    }
    if (found.len() as u64) * 16 < count {
        found.retain(|&ordinal| {
            view.entry(ordinal).is_some_and(|e| matcher.matches(e.get(matcher.name()).unwrap_or("")))
        });
        return;
    }
    let set = union(lists);
    let mut at = 0;
    found.retain(|&ordinal| {
        while set.get(at).is_some_and(|&other| other < ordinal) {
            at += 1;
        }
        (set.get(at) == Some(&ordinal)) == keep
    });
}

/// Tenant, metric and set of label names, so that equal bytes mean one family and byte order is family order.
fn write_family_key(out: &mut Vec<u8>, tenant: &str, series: SeriesEntry<'_>) {
    out.clear();
    write_escaped(out, tenant);
    write_escaped(out, series.get(METRIC_NAME).unwrap_or(""));
    for (name, _) in series.pairs() {
        if name != METRIC_NAME {
            write_escaped(out, name);
        }
    }
}

/// Bytes whose order is that of (tenant, labels): comparing them costs one `memcmp`.
fn write_sort_key(out: &mut Vec<u8>, tenant: &str, series: SeriesEntry<'_>) {
    write_escaped(out, tenant);
    for (name, value) in series.pairs() {
        write_escaped(out, name);
        write_escaped(out, value);
    }
}

/// A zero byte ends a string; one inside it is followed by 0xff, the end by 1, so that a prefix sorts first.
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

impl LiveIndex {
    /// Bytes that the index takes, roughly.
    ///
    /// Takes no lock: the index may be at work for long, and whoever asks must not wait for it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::{SeriesId, TenantId};
    use protocol::labels::Labels;

    use super::super::Registry;

    #[test]
    fn its_size_is_known_while_it_is_at_work() {
        let mut registry = Registry::new(1);
        let labels = Labels::from_pairs([("a", "x")]).expect("valid labels");
        registry.register(&TenantId::default(), SeriesId(1), labels.as_bytes());
        let view = registry.view();
        assert_eq!(view.live().bytes(), 0, "nobody has asked yet");
        view.live().in_segment_order(&view);
        let _at_work = view.live().state.write();
        assert!(view.live().bytes() > 12);
    }
}
