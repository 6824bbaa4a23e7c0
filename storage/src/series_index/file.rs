//! Registry files: runs of ordinals on disk. See `format.md` of the manifest for the bytes.
//!
//! Series come in the order in which they were first written, so neighbours belong to one target and share most labels.
//! A label pair is spelled out once per file; a series is a list of numbers of pairs, where 0 says "as the series
//! before". What is left repeats from target to target, and zstd takes it.

use hashbrown::HashMap;
use protocol::ids::{SeriesId, TenantId};
use protocol::labels::Labels;
use protocol::varint;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::label_store::Symbol;
use super::{Registry, RegistryView};
use crate::error::FormatError;

/// First bytes of a registry file; the last is the version.
const MAGIC: &[u8; 8] = b"PHREGIS\x01";
/// Magic, generation, seed, first ordinal, count, length of the body before compression, checksum of the header.
const HEADER_BYTES: usize = 8 + 8 + 8 + 4 + 4 + 8 + 4;
const ZSTD_LEVEL: i32 = 3;
/// Longest body that is believed: a hostile header must not make us allocate.
const MAX_BODY_BYTES: u64 = 4 << 30;
/// Most labels of a series that are believed.
const MAX_LABELS: u64 = 1 << 16;

type Pair<'a> = (&'a str, &'a str);

/// The file of the ordinals from `first` up to the view's end.
pub fn encode_registry_file(view: &RegistryView, first: usize) -> Vec<u8> {
    let (mut series, mut names) = (Vec::new(), Vec::new());
    let mut numbers: HashMap<(Symbol, Symbol), u64, Xxh3DefaultBuilder> = HashMap::default();
    let (mut before, mut current): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for entry in (first..view.len()).filter_map(|ordinal| view.entry(ordinal as u32)) {
        current.clear();
        current.extend(entry.symbols());
        varint::write_u64(&mut series, u64::from(entry.tenant()));
        varint::write_u64(&mut series, current.len() as u64);
        for (position, pair) in current.iter().enumerate() {
            if before.get(position) == Some(pair) {
                series.push(0);
                continue;
            }
            let next = numbers.len() as u64;
            let number = *numbers.entry(*pair).or_insert(next);
            varint::write_u64(&mut series, number + 1);
            if number == next {
                varint::write_prefixed(&mut names, view.series.text(pair.0).as_bytes());
                varint::write_prefixed(&mut names, view.series.text(pair.1).as_bytes());
            }
        }
        std::mem::swap(&mut before, &mut current);
    }
    let mut body = Vec::with_capacity(series.len() + names.len() + 64);
    varint::write_u64(&mut body, view.tenants.len() as u64);
    for tenant in view.tenants.iter() {
        varint::write_prefixed(&mut body, tenant.as_str().as_bytes());
    }
    varint::write_u64(&mut body, numbers.len() as u64);
    body.extend_from_slice(&names);
    body.extend_from_slice(&series);

    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() / 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&view.generation.to_le_bytes());
    out.extend_from_slice(&view.seed.to_le_bytes());
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
pub fn decode_registry_file(bytes: &[u8], registry: &mut Registry) -> Result<(), FormatError> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or("shorter than a header")?;
    if header[..7] != MAGIC[..7] {
        return Err("not a registry file".into());
    }
    if header[7] != MAGIC[7] {
        let (what, version, known) = ("a registry file", header[7], MAGIC[7]);
        return Err(FormatError::Version { what, version, known });
    }
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if u32_at(40) != crc32c::crc32c(&header[..40]) {
        return Err("the header's checksum is wrong".into());
    }
    let (generation, seed, first, count, body_len) =
        (u64_at(8), u64_at(16), u32_at(24), u32_at(28), u64_at(32));
    if generation != registry.generation() || first as usize != registry.len() {
        return Err(format!(
            "generation {generation} from ordinal {first} does not follow what is registered"
        )
        .into());
    }
    if first > 0 && seed != registry.seed {
        return Err("the seed is not that of the ordinals before".into());
    }
    let (packed, checksum) = rest.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(packed) {
        return Err("the body's checksum is wrong".into());
    }
    if body_len > MAX_BODY_BYTES {
        return Err(format!("claims a body of {body_len} bytes").into());
    }
    let body =
        zstd::bulk::decompress(packed, body_len as usize).map_err(|e| format!("can not be unpacked: {e}"))?;
    let mut input = &body[..];
    // The first series registered seeds the table.
    decode_body(&mut input, count, SeriesId(u128::from(seed)), registry).ok_or("the body is malformed")?;
    if !input.is_empty() {
        return Err("bytes after the last series".into());
    }
    Ok(())
}

fn decode_body(input: &mut &[u8], count: u32, id: SeriesId, registry: &mut Registry) -> Option<()> {
    fn text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(varint::read_prefixed(input)?).ok()
    }
    // Lists grow with what is really there: a count alone allocates nothing.
    let tenants: Vec<TenantId> =
        (0..varint::read_u64(input)?).map(|_| TenantId::new(text(input)?).ok()).collect::<Option<_>>()?;
    let pairs: Vec<Pair<'_>> =
        (0..varint::read_u64(input)?).map(|_| Some((text(input)?, text(input)?))).collect::<Option<_>>()?;
    let (mut before, mut current): (Vec<Pair<'_>>, Vec<Pair<'_>>) = (Vec::new(), Vec::new());
    let mut label_bytes = Vec::new();
    for _ in 0..count {
        let number = u32::try_from(varint::read_u64(input)?).ok()?;
        let tenant = tenants.get(number as usize)?;
        let labels = varint::read_u64(input).filter(|labels| *labels <= MAX_LABELS)?;
        current.clear();
        label_bytes.clear();
        for position in 0..labels as usize {
            let pair = match varint::read_len(input)? {
                0 => *before.get(position)?,
                number => *pairs.get(number - 1)?,
            };
            current.push(pair);
            varint::write_prefixed(&mut label_bytes, pair.0.as_bytes());
            varint::write_prefixed(&mut label_bytes, pair.1.as_bytes());
        }
        Labels::check_canonical(&label_bytes).ok()?;
        let next = registry.len();
        let registered = registry.register(tenant, id, &label_bytes).0 as usize;
        if registered != next || registry.series.get(next as u32)?.tenant() != number {
            return None;
        }
        std::mem::swap(&mut before, &mut current);
    }
    (registry.tenants.len() == tenants.len()).then_some(())
}
