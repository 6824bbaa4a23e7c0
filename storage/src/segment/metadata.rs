//! What is known of metrics by name: type, help and unit, as the latest client said it.

use std::collections::BTreeMap;

use protocol::varint;

use crate::encoding::DecodeError;

/// Metadata of one metric family of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricMetadata {
    /// Name of the family.
    pub family: String,
    /// Type code; its meaning is the caller's.
    pub kind: u8,
    /// What it measures, in words.
    pub help: String,
    /// In what it is measured.
    pub unit: String,
}

/// Metadata by tenant and family.
pub(super) type MetadataMap = BTreeMap<String, BTreeMap<String, MetricMetadata>>;

pub(super) fn encode(all: &MetadataMap) -> Vec<u8> {
    let mut raw = Vec::new();
    varint::write_u64(&mut raw, all.len() as u64);
    for (tenant, families) in all {
        varint::write_prefixed(&mut raw, tenant.as_bytes());
        varint::write_u64(&mut raw, families.len() as u64);
        for metadata in families.values() {
            varint::write_prefixed(&mut raw, metadata.family.as_bytes());
            raw.push(metadata.kind);
            varint::write_prefixed(&mut raw, metadata.help.as_bytes());
            varint::write_prefixed(&mut raw, metadata.unit.as_bytes());
        }
    }
    raw
}

pub(super) fn decode(raw: &[u8]) -> Result<MetadataMap, DecodeError> {
    let mut input = raw;
    let mut all = MetadataMap::new();
    for _ in 0..varint::read_u64(&mut input).ok_or(DecodeError::Truncated)? {
        let tenant = read_text(&mut input)?;
        let mut families = BTreeMap::new();
        for _ in 0..varint::read_u64(&mut input).ok_or(DecodeError::Truncated)? {
            let family = read_text(&mut input)?;
            let kind = varint::read_bytes(&mut input, 1).ok_or(DecodeError::Truncated)?[0];
            let (help, unit) = (read_text(&mut input)?, read_text(&mut input)?);
            families.insert(family.clone(), MetricMetadata { family, kind, help, unit });
        }
        all.insert(tenant, families);
    }
    if input.is_empty() { Ok(all) } else { Err(DecodeError::Malformed("bytes after the metadata")) }
}

pub(super) fn read_text(input: &mut &[u8]) -> Result<String, DecodeError> {
    let bytes = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("text"))
}
