//! Keyed 128-bit hashes by which a router knows again what it has seen.

use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::ids::{ClusterSecret, TenantId};

/// Key of the fingerprints of a cluster.
///
/// A fingerprint stands for the bytes it was made from: nobody compares the bytes again. With 128 bits, chance needs 2^64
/// series for a doubled one; the key keeps a client from looking for one. Fingerprints stay on the node that made them.
#[derive(Clone)]
pub struct FingerprintKey(Box<[u8; 192]>);

impl FingerprintKey {
    /// The key that belongs to a cluster's secret.
    pub fn new(secret: &ClusterSecret) -> Self {
        let mut key = Box::new([0; 192]);
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(b"pharos: fingerprints of raw label bytes");
        hasher.finalize_xof().fill(&mut key[..]);
        Self(key)
    }

    /// Fingerprint of raw bytes.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_secret(bytes, &self.0[..])
    }

    /// What a tenant's fingerprints are combined with (exclusive or), so that tenants never share one.
    pub fn tenant(&self, tenant: &TenantId) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(self.0.first_chunk::<32>().expect("the key is longer"));
        hasher.update(tenant.as_str().as_bytes());
        let hash = hasher.finalize();
        u128::from_le_bytes(*hash.as_bytes().first_chunk::<16>().expect("the hash is longer"))
    }
}

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey(..)")
    }
}
