//! Dashboards: documents that people share, replicated with their versions.
//!
//! A save names the version that it was made from. Where that is not the newest one the save is refused and says so:
//! of two people who change the same dashboard the second learns of the first, and nobody overwrites anybody. What a
//! document says is the business of whoever shows it; here it is text with a title.
//!
//! All of it lives in the meta state, in memory on every node, so it is bounded: [`MAX_DOCUMENT_BYTES`] a document,
//! [`MAX_VERSIONS`] versions a dashboard of which the oldest go first, [`MAX_TOTAL_BYTES`] for all of them. Versions
//! are shared between copies of the state: publishing a change copies pointers, not documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ids::TenantId;
use serde::{Deserialize, Serialize};

use super::MetaOutcome;

/// Longest document.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Versions that are kept of a dashboard.
pub const MAX_VERSIONS: usize = 20;
/// Bytes of all versions of all dashboards. As JSON within JSON they can take twice that in the export file, which is
/// read up to 64 MiB.
pub const MAX_TOTAL_BYTES: usize = 16 << 20;
/// Longest name in addresses.
pub const MAX_UID_BYTES: usize = 64;
/// Longest title, folder, message, and all tags together.
const MAX_TEXT_BYTES: usize = 1024;

/// What is listed of a dashboard without its document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardHead {
    /// What people call it.
    pub title: String,
    /// Where it is filed; empty for the top.
    #[serde(default)]
    pub folder: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// One state of a dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardVersion {
    /// Counts from 1.
    pub version: u64,
    /// When it was saved, by the clock of the node that took it.
    pub updated_ms: i64,
    /// Why, in words of whoever saved it.
    #[serde(default)]
    pub message: String,
    /// Title and the like.
    pub head: DashboardHead,
    /// The document.
    pub document: String,
}

impl DashboardVersion {
    /// Whether that save made it.
    fn is_of(&self, save: &DashboardSave) -> bool {
        self.version == save.expected + 1
            && self.updated_ms == save.updated_ms
            && self.message == save.message
            && self.head == save.head
            && self.document == save.document
    }

    fn bytes(&self) -> usize {
        let tags: usize = self.head.tags.iter().map(String::len).sum();
        self.document.len() + self.message.len() + self.head.title.len() + self.head.folder.len() + tags
    }
}

/// The versions of a dashboard, the newest last. Never empty.
pub type Versions = Vec<Arc<DashboardVersion>>;

/// All dashboards, by tenant and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dashboards(BTreeMap<TenantId, BTreeMap<String, Arc<Versions>>>);

/// A dashboard to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardSave {
    /// Whose.
    pub tenant: TenantId,
    /// Its name in addresses.
    pub uid: String,
    /// The version it was made from; 0 for a new one.
    pub expected: u64,
    /// The clock of the node that takes it.
    pub updated_ms: i64,
    /// Why.
    pub message: String,
    /// Title and the like.
    pub head: DashboardHead,
    /// The document.
    pub document: String,
}

/// Whether a text can be a dashboard's name: it stands in addresses.
pub fn is_uid(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= MAX_UID_BYTES && text.bytes().all(allowed)
}

impl Dashboards {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A tenant's dashboards by name, each with its newest version.
    pub fn list<'a>(
        &'a self,
        tenant: &TenantId,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<DashboardVersion>)> {
        let all = self.0.get(tenant).into_iter().flatten();
        all.filter_map(|(uid, versions)| Some((uid.as_str(), versions.last()?)))
    }

    /// All of them with their versions, by tenant and name.
    pub fn all(&self) -> impl Iterator<Item = (&TenantId, &str, &Arc<Versions>)> {
        let of_tenant = |(tenant, all)| {
            let all: &BTreeMap<String, Arc<Versions>> = all;
            all.iter().map(move |(uid, versions)| (tenant, uid.as_str(), versions))
        };
        self.0.iter().flat_map(of_tenant)
    }

    /// The versions of a dashboard that are kept.
    pub fn versions(&self, tenant: &TenantId, uid: &str) -> Option<&Arc<Versions>> {
        self.0.get(tenant)?.get(uid)
    }

    /// Version of the newest document; 0 when there is none.
    fn newest(&self, tenant: &TenantId, uid: &str) -> u64 {
        self.versions(tenant, uid).and_then(|versions| versions.last()).map_or(0, |last| last.version)
    }

    fn bytes(&self) -> usize {
        let versions = self.0.values().flat_map(BTreeMap::values).flat_map(|versions| versions.iter());
        versions.map(|version| version.bytes()).sum()
    }

    /// Stores a version after the newest one, if it was made from that.
    pub(super) fn save(&mut self, save: &DashboardSave) -> MetaOutcome {
        let refused = MetaOutcome::refused;
        if !is_uid(&save.uid) {
            return refused(format!("{:?} can not be a dashboard's name", save.uid));
        }
        if save.document.len() > MAX_DOCUMENT_BYTES {
            return refused(format!(
                "the document has {} bytes, allowed are {MAX_DOCUMENT_BYTES}",
                save.document.len()
            ));
        }
        let tags: usize = save.head.tags.iter().map(|tag| tag.len() + 1).sum();
        let texts = [save.head.title.len(), save.head.folder.len(), save.message.len(), tags];
        if texts.into_iter().any(|bytes| bytes > MAX_TEXT_BYTES) {
            return refused(format!(
                "title, folder, tags and message have at most {MAX_TEXT_BYTES} bytes each"
            ));
        }
        let newest = self.newest(&save.tenant, &save.uid);
        if save.expected != newest {
            // Sent again because its answer was lost on the way, it finds what it has done itself.
            let versions = self.versions(&save.tenant, &save.uid);
            let own = versions.and_then(|versions| versions.iter().find(|version| version.is_of(save)));
            return match own {
                Some(own) => MetaOutcome::Dashboard { version: own.version },
                None => MetaOutcome::Stale { newest },
            };
        }
        let version = Arc::new(DashboardVersion {
            version: newest + 1,
            updated_ms: save.updated_ms,
            message: save.message.clone(),
            head: save.head.clone(),
            document: save.document.clone(),
        });
        let mut versions = self.versions(&save.tenant, &save.uid).map_or_else(Vec::new, |v| v.to_vec());
        let kept: usize = versions.iter().map(|v| v.bytes()).sum();
        let others = self.bytes() - kept;
        versions.push(version);
        let surplus = versions.len().saturating_sub(MAX_VERSIONS);
        versions.drain(..surplus);
        if others + versions.iter().map(|v| v.bytes()).sum::<usize>() > MAX_TOTAL_BYTES {
            return refused(format!(
                "dashboards and their versions would take more than {MAX_TOTAL_BYTES} bytes; delete some first"
            ));
        }
        self.0.entry(save.tenant.clone()).or_default().insert(save.uid.clone(), Arc::new(versions));
        MetaOutcome::Dashboard { version: newest + 1 }
    }

    /// Forgets a dashboard and its versions, if its newest one is `expected`.
    pub(super) fn delete(&mut self, tenant: &TenantId, uid: &str, expected: u64) -> MetaOutcome {
        let newest = self.newest(tenant, uid);
        if newest == 0 || newest != expected {
            return MetaOutcome::Stale { newest };
        }
        if let Some(all) = self.0.get_mut(tenant) {
            all.remove(uid);
            if all.is_empty() {
                self.0.remove(tenant);
            }
        }
        MetaOutcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(uid: &str, expected: u64, document: &str) -> DashboardSave {
        DashboardSave {
            tenant: TenantId::default(),
            uid: uid.to_owned(),
            expected,
            updated_ms: 7,
            message: String::new(),
            head: DashboardHead { title: format!("title of {uid}"), ..DashboardHead::default() },
            document: document.to_owned(),
        }
    }

    #[track_caller]
    fn stored(all: &mut Dashboards, uid: &str, expected: u64, document: &str) {
        assert_eq!(
            all.save(&save(uid, expected, document)),
            MetaOutcome::Dashboard { version: expected + 1 }
        );
    }

    #[test]
    fn who_saves_second_is_told() {
        let mut all = Dashboards::default();
        stored(&mut all, "a", 0, "one");
        stored(&mut all, "a", 1, "two");
        assert_eq!(all.save(&save("a", 1, "mine")), MetaOutcome::Stale { newest: 2 });
        assert_eq!(all.save(&save("a", 0, "new")), MetaOutcome::Stale { newest: 2 });
        let tenant = TenantId::default();
        let versions = all.versions(&tenant, "a").unwrap();
        assert_eq!(versions.iter().map(|v| v.document.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let list: Vec<_> = all.list(&tenant).map(|(uid, last)| (uid, last.version)).collect();
        assert_eq!(list, [("a", 2)]);
        assert_eq!(all.list(&TenantId::new("other").unwrap()).count(), 0, "a tenant sees its own");
    }

    #[test]
    fn a_save_that_comes_again_finds_what_it_did() {
        let mut all = Dashboards::default();
        let first = save("a", 0, "one");
        stored(&mut all, "a", 0, "one");
        assert_eq!(all.save(&first), MetaOutcome::Dashboard { version: 1 });
        stored(&mut all, "a", 1, "two");
        assert_eq!(all.save(&first), MetaOutcome::Dashboard { version: 1 }, "also once another followed it");
        let another = DashboardSave { updated_ms: 8, ..first };
        assert_eq!(all.save(&another), MetaOutcome::Stale { newest: 2 });
        assert_eq!(all.versions(&TenantId::default(), "a").unwrap().len(), 2);
    }

    #[test]
    fn a_delete_names_the_version_that_it_saw() {
        let mut all = Dashboards::default();
        stored(&mut all, "a", 0, "one");
        let tenant = TenantId::default();
        assert_eq!(all.delete(&tenant, "a", 2), MetaOutcome::Stale { newest: 1 });
        assert_eq!(all.delete(&tenant, "b", 0), MetaOutcome::Stale { newest: 0 });
        assert_eq!(all.delete(&tenant, "a", 1), MetaOutcome::Done);
        assert!(all.is_empty());
    }

    #[test]
    fn old_versions_go_and_the_whole_is_bounded() {
        let mut all = Dashboards::default();
        for version in 0..30 {
            stored(&mut all, "a", version, "x");
        }
        let versions = all.versions(&TenantId::default(), "a").unwrap();
        let kept: Vec<u64> = versions.iter().map(|v| v.version).collect();
        assert_eq!(kept, (11..=30).collect::<Vec<_>>());
        let large = "y".repeat(MAX_DOCUMENT_BYTES);
        for n in 0..15 {
            stored(&mut all, &format!("large-{n}"), 0, &large);
        }
        assert!(matches!(all.save(&save("one-more", 0, &large)), MetaOutcome::Refused { .. }));
        stored(&mut all, "small", 0, "fits");
        let longer = "y".repeat(MAX_DOCUMENT_BYTES + 1);
        assert!(matches!(all.save(&save("small", 1, &longer)), MetaOutcome::Refused { .. }));
    }

    #[test]
    fn names_stand_in_addresses() {
        for good in ["a", "Node-Exporter_1", &"x".repeat(MAX_UID_BYTES)] {
            assert!(is_uid(good), "{good}");
        }
        for bad in ["", "a/b", "..", "ä", "a b", &"x".repeat(MAX_UID_BYTES + 1)] {
            assert!(!is_uid(bad), "{bad}");
            assert!(matches!(Dashboards::default().save(&save(bad, 0, "x")), MetaOutcome::Refused { .. }));
        }
    }
}
