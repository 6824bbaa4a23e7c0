//! Registry files: runs of ordinals on disk. See `format.md` of the manifest for the bytes.

use protocol::ids::{SeriesId, TenantId};
use protocol::labels::Labels;
use protocol::varint;

use super::{Registry, RegistryView};

/// First bytes of a registry file; the last is the version.
const MAGIC: &[u8; 8] = b"PHREGIS\x01";
/// Magic, generation, first ordinal, count, length of the body before compression, checksum of the header.
const HEADER_BYTES: usize = 8 + 8 + 4 + 4 + 8 + 4;
const ZSTD_LEVEL: i32 = 3;
/// Longest body that is believed: a hostile header must not make us allocate.
const MAX_BODY_BYTES: u64 = 4 << 30;

/// The file of the ordinals from `first` up to the view's end.
pub fn encode_registry_file(view: &RegistryView, first: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let tenants = view.tenants.iter().map(TenantId::as_str);
    varint::write_u64(&mut body, view.tenants.len() as u64);
    tenants.for_each(|name| varint::write_prefixed(&mut body, name.as_bytes()));
    for entry in view.entries.range(first, view.len()) {
        varint::write_u64(&mut body, u64::from(entry.tenant));
        body.extend_from_slice(&entry.id.0.to_le_bytes());
        varint::write_prefixed(&mut body, entry.labels.as_bytes());
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() / 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&view.generation.to_le_bytes());
    out.extend_from_slice(&(first as u32).to_le_bytes());
    out.extend_from_slice(&((view.len() - first) as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    let packed = zstd::bulk::compress(&body, ZSTD_LEVEL).expect("compression into memory does not fail");
    out.extend_from_slice(&packed);
    out.extend_from_slice(&crc32c::crc32c(&packed).to_le_bytes());
    out
}

/// Registers the series of a file. The registry must hold all ordinals before the file's first.
pub fn decode_registry_file(bytes: &[u8], registry: &mut Registry) -> Result<(), String> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or("shorter than a header")?;
    if header[..7] != MAGIC[..7] {
        return Err("not a registry file".into());
    }
    if header[7] != MAGIC[7] {
        return Err(format!("version {} is not known", header[7]));
    }
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if u32_at(32) != crc32c::crc32c(&header[..32]) {
        return Err("the header's checksum is wrong".into());
    }
    let (generation, first, count, body_len) = (u64_at(8), u32_at(16), u32_at(20), u64_at(24));
    if generation != registry.generation() || first as usize != registry.len() {
        return Err(format!(
            "generation {generation} from ordinal {first} does not follow what is registered"
        ));
    }
    let (packed, checksum) = rest.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(packed) {
        return Err("the body's checksum is wrong".into());
    }
    if body_len > MAX_BODY_BYTES {
        return Err(format!("claims a body of {body_len} bytes"));
    }
    let body =
        zstd::bulk::decompress(packed, body_len as usize).map_err(|e| format!("can not be unpacked: {e}"))?;
    let mut input = &body[..];
    decode_body(&mut input, count, registry).ok_or("the body is malformed")?;
    if !input.is_empty() {
        return Err("bytes after the last series".into());
    }
    Ok(())
}

fn decode_body(input: &mut &[u8], count: u32, registry: &mut Registry) -> Option<()> {
    let mut tenants = Vec::new();
    for _ in 0..varint::read_u64(input)? {
        let name = std::str::from_utf8(varint::read_prefixed(input)?).ok()?;
        tenants.push(TenantId::new(name).ok()?);
    }
    for _ in 0..count {
        let number = u32::try_from(varint::read_u64(input)?).ok()?;
        let tenant = tenants.get(number as usize)?;
        let id = SeriesId(u128::from_le_bytes(varint::read_bytes(input, 16)?.try_into().ok()?));
        let labels = Labels::from_canonical(varint::read_prefixed(input)?).ok()?;
        let next = registry.len();
        let registered = registry.register(tenant, id, || labels).0 as usize;
        if registered != next || registry.entries.get(next)?.tenant != number {
            return None;
        }
    }
    (registry.tenants.len() == tenants.len()).then_some(())
}
