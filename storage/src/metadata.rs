//! What is known of metric families: type, help and unit, by tenant and family; the latest word wins.
//!
//! It is small (thousands of entries), rarely changes and is asked for as a whole, so it is a map in memory and one
//! file, written as a whole by a flush if it changed since the flush before.

use std::collections::BTreeMap;

use protocol::batch::MetricType;
use protocol::ids::TenantId;
use protocol::varint;

use crate::error::FormatError;

const MAGIC: &[u8; 8] = b"PHMETAD\x01";
const HEADER_BYTES: usize = 16;
const ZSTD_LEVEL: i32 = 3;
const MAX_BODY_BYTES: u64 = 1 << 30;

/// Families that a shard remembers at most; further ones are ignored, the same on all replicas.
pub const MAX_FAMILIES: usize = 200_000;

/// What is known of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyMetadata {
    /// What it is.
    pub metric_type: MetricType,
    /// Text for people.
    pub help: String,
    /// Unit of the values.
    pub unit: String,
}

/// All families of a shard.
pub type MetadataMap = BTreeMap<TenantId, BTreeMap<String, FamilyMetadata>>;

/// The file's bytes.
pub fn encode_metadata_file(map: &MetadataMap) -> Vec<u8> {
    let mut body = Vec::new();
    varint::write_u64(&mut body, map.values().map(|families| families.len() as u64).sum());
    for (tenant, families) in map {
        for (family, known) in families {
            varint::write_prefixed(&mut body, tenant.as_str().as_bytes());
            varint::write_prefixed(&mut body, family.as_bytes());
            body.push(known.metric_type as u8);
            varint::write_prefixed(&mut body, known.help.as_bytes());
            varint::write_prefixed(&mut body, known.unit.as_bytes());
        }
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend(zstd::bulk::compress(&body, ZSTD_LEVEL).expect("compression into memory does not fail"));
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Takes a file's bytes. The error says what is wrong with them.
pub fn decode_metadata_file(bytes: &[u8]) -> Result<MetadataMap, FormatError> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
    let (header, packed) = content.split_at_checked(HEADER_BYTES).ok_or("shorter than a header")?;
    if header[..7] != MAGIC[..7] {
        return Err("not a metadata file".into());
    }
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(content) {
        return Err("the checksum is wrong".into());
    }
    if header[7] != MAGIC[7] {
        let (what, version, known) = ("a metadata file", header[7], MAGIC[7]);
        return Err(FormatError::Version { what, version, known });
    }
    let body_len = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
    if body_len > MAX_BODY_BYTES {
        return Err(format!("claims a body of {body_len} bytes").into());
    }
    let body =
        zstd::bulk::decompress(packed, body_len as usize).map_err(|e| format!("can not be unpacked: {e}"))?;
    let mut input = &body[..];
    match decode_body(&mut input) {
        Some(map) if input.is_empty() => Ok(map),
        _ => Err("the body is malformed".into()),
    }
}

fn decode_body(input: &mut &[u8]) -> Option<MetadataMap> {
    fn text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(varint::read_prefixed(input)?).ok()
    }
    let mut map = MetadataMap::new();
    for _ in 0..varint::read_u64(input)? {
        let tenant = TenantId::new(text(input)?).ok()?;
        let family = text(input)?.to_owned();
        let metric_type = MetricType::from_code(varint::read_bytes(input, 1)?[0])?;
        let (help, unit) = (text(input)?.to_owned(), text(input)?.to_owned());
        map.entry(tenant).or_default().insert(family, FamilyMetadata { metric_type, help, unit });
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_finds_damage() {
        let mut map = MetadataMap::new();
        let known =
            FamilyMetadata { metric_type: MetricType::Counter, help: "Requests.".into(), unit: "".into() };
        map.entry(TenantId::default()).or_default().insert("requests".into(), known);
        let bytes = encode_metadata_file(&map);
        assert_eq!(decode_metadata_file(&bytes), Ok(map));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(decode_metadata_file(&damaged).is_err(), "byte {at}");
            assert!(decode_metadata_file(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut later = bytes;
        let end = later.len() - 4;
        later[7] += 1;
        let checksum = crc32c::crc32c(&later[..end]).to_le_bytes();
        later[end..].copy_from_slice(&checksum);
        let error = decode_metadata_file(&later).expect_err("not known here");
        assert!(!error.of_file("f").is_damage(), "a later release's file is no damage");
    }
}
