#![doc = include_str!("segment.md")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use protocol::encoding::columns::{self, Pack, Trust};
use protocol::encoding::{DecodeError, frame};
use protocol::logs::RowSignal;
use protocol::logs::block::{Block, BodyCount, Layout, Limits, Want};
use protocol::logs::dict::Dict;
use protocol::logs::rows::Rows;
use protocol::varint::{
    read_bytes, read_len, read_prefixed, read_u64, unzigzag, write_prefixed, write_u64, zigzag,
};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use crate::fs::Map;
use crate::segment::header::{END_MAGIC, SegmentHeader};
use crate::segment::reader::{footer_of, read_header};
use crate::segment::rows::Output;
use crate::segment::{BuildError, Corruption, SegmentError, SegmentName, Signal, Sink};

/// Rows of a block of logs, the most that a block may have.
pub const BLOCK_ROWS: usize = 16 << 10;

/// Rows of a block of a signal. A trace is a few rows of a block, all of which are decoded for it.
pub const fn block_rows(signal: RowSignal) -> usize {
    match signal {
        RowSignal::Logs => BLOCK_ROWS,
        RowSignal::Spans => 4 << 10,
    }
}
/// Bounds of a block when it is decoded.
pub const LIMITS: Limits = Limits { rows: BLOCK_ROWS, values: 1 << 28, bytes: 1 << 28 };

const SECTIONS: usize = 2;
const DICT: usize = 0;
const DIRECTORY: usize = 1;
const SECTION_NAMES: [&str; SECTIONS] = ["dictionary", "directory"];

/// What the directory says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    offset: u64,
    len: usize,
    crc: u32,
    filter_len: usize,
    filter_crc: u32,
    /// Number of records.
    pub rows: usize,
    /// Position of its tenant.
    pub tenant: usize,
    /// First and last time, in nanoseconds.
    pub span: (i64, i64),
    /// Checksum of its records.
    pub checksum: u64,
    /// Templates of the bodies and how many have each.
    pub bodies: Vec<BodyCount>,
}

/// What is in a segment of logs or spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Number of records.
    pub rows: u64,
    /// Number of streams.
    pub streams: u64,
    /// First and last time, in nanoseconds.
    pub span: (i64, i64),
}

/// A built segment.
#[derive(Debug)]
pub struct SealedLogSegment<S> {
    /// Where its bytes went.
    pub sink: S,
    /// Its name.
    pub name: SegmentName,
    /// Its length.
    pub len_bytes: u64,
    /// What is in it.
    pub summary: LogSummary,
}

/// Builds a segment from encoded blocks, ordered by tenant and time.
pub struct LogSegmentBuilder<S> {
    out: Output<S>,
    tenants: Vec<String>,
    blocks: Vec<BlockEntry>,
}

/// A block that is ready to be written.
pub struct NewBlock<'a> {
    /// Whose records; blocks come by tenant.
    pub tenant: &'a str,
    /// The block.
    pub bytes: &'a [u8],
    /// Bytes from its start that have no checksum in it.
    pub unchecked: usize,
    /// Number of records.
    pub rows: usize,
    /// First and last time.
    pub span: (i64, i64),
    /// Checksum of its records.
    pub checksum: u64,
    /// Templates of the bodies.
    pub bodies: Vec<BodyCount>,
    /// Hashes of values that are looked for by themselves; sorted, each once.
    pub hashes: &'a [u64],
}

impl<S: Sink> LogSegmentBuilder<S> {
    /// Begins a segment.
    pub fn new(header: &SegmentHeader, sink: S) -> Result<Self, BuildError> {
        let mut out = Output::new(sink);
        out.write(&header.encode())?;
        Ok(Self { out, tenants: Vec::new(), blocks: Vec::new() })
    }

    /// Writes a block.
    pub fn push(&mut self, block: NewBlock<'_>) -> Result<(), BuildError> {
        if self.tenants.last().is_none_or(|last| last != block.tenant) {
            self.tenants.push(block.tenant.to_owned());
        }
        let offset = self.out.offset();
        self.out.write(block.bytes)?;
        let filter = encode_filter(block.hashes);
        self.out.write(&filter)?;
        self.blocks.push(BlockEntry {
            offset,
            len: block.bytes.len(),
            crc: crc32c::crc32c(&block.bytes[..block.unchecked]),
            filter_len: filter.len(),
            filter_crc: crc32c::crc32c(&filter),
            rows: block.rows,
            tenant: self.tenants.len() - 1,
            span: block.span,
            checksum: block.checksum,
            bodies: block.bodies,
        });
        Ok(())
    }

    /// Writes dictionary, directory and footer.
    pub fn finish(mut self, dict: &Dict, uses: &[u64]) -> Result<SealedLogSegment<S>, BuildError> {
        let mut dictionary = Vec::new();
        dict.encode(Pack::Small, &mut dictionary);
        let mut packed = Vec::new();
        frame::write(&self.directory(uses), 3, &mut packed);
        let spans = self.blocks.iter().map(|block| block.span);
        let summary = LogSummary {
            rows: self.blocks.iter().map(|block| block.rows as u64).sum(),
            streams: dict.streams().len() as u64,
            span: spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0)),
        };
        let mut footer = Vec::new();
        write_u64(&mut footer, summary.rows);
        write_u64(&mut footer, summary.streams);
        write_u64(&mut footer, zigzag(summary.span.0));
        write_u64(&mut footer, zigzag(summary.span.1));
        for section in [&dictionary, &packed] {
            write_u64(&mut footer, self.out.offset());
            write_u64(&mut footer, section.len() as u64);
            footer.extend_from_slice(&crc32c::crc32c(section).to_le_bytes());
            self.out.write(section)?;
        }
        let crc = crc32c::crc32c(&footer);
        let len = footer.len() as u32;
        footer.extend_from_slice(&len.to_le_bytes());
        footer.extend_from_slice(&crc.to_le_bytes());
        let file_len = self.out.offset() + footer.len() as u64 + 16;
        footer.extend_from_slice(&file_len.to_le_bytes());
        footer.extend_from_slice(&END_MAGIC);
        self.out.write(&footer)?;
        let (sink, len_bytes, hash) = self.out.finish();
        Ok(SealedLogSegment { sink, name: SegmentName(hash), len_bytes, summary })
    }

    fn directory(&self, uses: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        write_u64(&mut out, self.tenants.len() as u64);
        self.tenants.iter().for_each(|tenant| write_prefixed(&mut out, tenant.as_bytes()));
        let mut column = Vec::new();
        let uses: Vec<i64> = uses.iter().map(|uses| *uses as i64).collect();
        columns::encode(&uses, false, Pack::Quick, &mut column);
        write_u64(&mut out, uses.len() as u64);
        write_prefixed(&mut out, &column);
        write_u64(&mut out, self.blocks.len() as u64);
        let mut end = 0;
        for block in &self.blocks {
            write_u64(&mut out, block.offset - end);
            end = block.offset + (block.len + block.filter_len) as u64;
            for number in [block.len, block.filter_len, block.rows, block.tenant] {
                write_u64(&mut out, number as u64);
            }
            out.extend_from_slice(&block.crc.to_le_bytes());
            out.extend_from_slice(&block.filter_crc.to_le_bytes());
            out.extend_from_slice(&block.checksum.to_le_bytes());
            write_u64(&mut out, zigzag(block.span.0));
            write_u64(&mut out, block.span.1.wrapping_sub(block.span.0) as u64);
            write_u64(&mut out, block.bodies.len() as u64);
            for (template, count) in &block.bodies {
                write_u64(&mut out, template.map_or(0, |template| u64::from(template) + 1));
                write_u64(&mut out, u64::from(*count));
            }
        }
        out
    }
}

/// A binary fuse filter: descriptor and fingerprints; nothing for no keys, or where none can be built.
///
/// Which seed is tried when is fixed, so equal keys give equal bytes.
fn encode_filter(hashes: &[u64]) -> Vec<u8> {
    if hashes.is_empty() {
        return Vec::new();
    }
    let Ok(filter) = BinaryFuse8::try_from_iterator(hashes.iter().copied()) else { return Vec::new() };
    let mut out = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut out);
    out.extend_from_slice(filter.dma_fingerprints());
    out
}

/// An open segment. Cheap to clone; all methods may be called from many threads.
#[derive(Clone)]
pub struct LogSegmentReader(Arc<Inner>);

impl std::fmt::Debug for LogSegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSegmentReader").field("path", &self.0.path).finish_non_exhaustive()
    }
}

struct Inner {
    path: PathBuf,
    file: Map,
    header: SegmentHeader,
    summary: LogSummary,
    tenants: Vec<String>,
    blocks: Vec<BlockEntry>,
    uses: Vec<u64>,
    dict_at: Range<usize>,
    dict_crc: u32,
    dict: OnceLock<Arc<Dict>>,
}

/// An offset in the file and what is wrong there.
type Fault = (u64, Corruption);

impl LogSegmentReader {
    /// Opens a sealed file: verifies header, footer and directory; the dictionary at its first use. `path` is for messages
    /// only.
    pub fn open(file: Map, path: &Path) -> Result<Self, SegmentError> {
        let header = read_header(&file).map_err(|fault| fault.of_file(path))?;
        let open = || -> Result<Inner, Fault> {
            let (at, footer) = footer_of(&file)?;
            let (summary, sections) =
                read_footer(footer, at).ok_or((at as u64, Corruption::Bounds("footer")))?;
            let (range, crc) = &sections[DIRECTORY];
            if crc32c::crc32c(&file[range.clone()]) != *crc {
                return Err((range.start as u64, Corruption::Checksum(SECTION_NAMES[DIRECTORY])));
            }
            let located =
                |source| (range.start as u64, Corruption::Column { what: SECTION_NAMES[DIRECTORY], source });
            let directory = frame::read(&file[range.clone()]).map_err(located)?;
            let end = sections[DICT].0.start as u64;
            let (tenants, uses, blocks) =
                read_directory(&directory, end).ok_or(located(DecodeError::Malformed("directory")))?;
            if blocks.iter().map(|block| block.rows as u64).sum::<u64>() != summary.rows {
                return Err(located(DecodeError::Malformed("number of rows")));
            }
            let (dict_at, dict_crc) = sections[DICT].clone();
            Ok(Inner {
                path: path.to_owned(),
                file: file.clone(),
                header,
                summary,
                tenants,
                blocks,
                uses,
                dict_at,
                dict_crc,
                dict: OnceLock::new(),
            })
        };
        let inner = open().map_err(|(offset, reason)| corrupt(path, offset, reason))?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the writer knew before the first block.
    pub fn header(&self) -> &SegmentHeader {
        &self.0.header
    }

    /// What is in the segment.
    pub fn summary(&self) -> &LogSummary {
        &self.0.summary
    }

    /// Whether filters know span ids. Those of spans do not: each is there once, and whoever asks for one asks for its trace.
    pub fn finds_span_ids(&self) -> bool {
        self.0.header.partition.signal != Signal::Traces
    }

    /// Path it was opened with.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Tenants that have records here.
    pub fn tenants(&self) -> &[String] {
        &self.0.tenants
    }

    /// Blocks by tenant and time.
    pub fn blocks(&self) -> &[BlockEntry] {
        &self.0.blocks
    }

    /// How many texts have each template of the dictionary.
    pub fn uses(&self) -> &[u64] {
        &self.0.uses
    }

    /// Positions of a tenant's blocks.
    pub fn blocks_of(&self, tenant: &str) -> Range<usize> {
        let Some(number) = self.0.tenants.iter().position(|name| name == tenant) else { return 0..0 };
        let start = self.0.blocks.partition_point(|block| block.tenant < number);
        start..self.0.blocks.partition_point(|block| block.tenant <= number)
    }

    /// What blocks refer to. Decoded once.
    pub fn dict(&self) -> Result<&Arc<Dict>, SegmentError> {
        let inner = &*self.0;
        if let Some(dict) = inner.dict.get() {
            return Ok(dict);
        }
        let what = SECTION_NAMES[DICT];
        let fault = |reason| corrupt(&inner.path, inner.dict_at.start as u64, reason);
        let bytes = &inner.file[inner.dict_at.clone()];
        if crc32c::crc32c(bytes) != inner.dict_crc {
            return Err(fault(Corruption::Checksum(what)));
        }
        let mut input = bytes;
        let dict = Dict::decode(&mut input, Trust::Own)
            .map_err(|source| fault(Corruption::Column { what, source }))?;
        if !input.is_empty() || dict.templates().len() != inner.uses.len() {
            return Err(fault(Corruption::Bounds(what)));
        }
        Ok(inner.dict.get_or_init(|| Arc::new(dict)))
    }

    /// Bytes of memory that the dictionary takes, once it was used.
    pub fn memory_bytes(&self) -> usize {
        self.0.dict.get().map_or(0, |dict| dict.memory_bytes())
    }

    /// A block. What is read of it may have another checksum than it should.
    pub fn block(&self, number: usize) -> Result<Block<'_>, SegmentError> {
        let entry = &self.0.blocks[number];
        let layout = Layout::of_epoch(self.0.header.encoder_epoch);
        let bytes = self.slice(entry.offset, entry.len);
        let unchecked =
            Block::unchecked(bytes, layout).ok_or_else(|| self.fault(number, DecodeError::Checksum))?;
        self.bytes(entry.offset, unchecked, entry.crc, "block")?;
        let block = Block::parse(bytes, layout, LIMITS).map_err(|source| self.fault(number, source))?;
        if block.rows() == entry.rows {
            Ok(block)
        } else {
            Err(self.fault(number, DecodeError::Malformed("number of rows")))
        }
    }

    /// Columns of a block.
    pub fn rows(&self, number: usize, want: &Want) -> Result<Rows, SegmentError> {
        let rows = self.block(number)?.decode(self.dict()?, want, None, Trust::Own, LIMITS);
        rows.map_err(|source| self.fault(number, source))
    }

    /// Whether a block may hold a value of this hash: `false` only if it does not.
    pub fn may_hold(&self, number: usize, hash: u64) -> Result<bool, SegmentError> {
        self.may_hold_any(number, &[hash])
    }

    /// Whether a block may hold a value of one of these hashes: `false` only if it does not.
    pub fn may_hold_any(&self, number: usize, hashes: &[u64]) -> Result<bool, SegmentError> {
        let entry = &self.0.blocks[number];
        if entry.filter_len == 0 {
            return Ok(true);
        }
        let offset = entry.offset + entry.len as u64;
        let bytes = self.bytes(offset, entry.filter_len, entry.filter_crc, "filter")?;
        let parts = bytes.split_at_checked(BinaryFuse8::DESCRIPTOR_LEN);
        let (descriptor, fingerprints) =
            parts.ok_or_else(|| corrupt(&self.0.path, offset, Corruption::Bounds("filter")))?;
        let filter = BinaryFuse8Ref::from_dma(descriptor, fingerprints);
        Ok(hashes.iter().any(|hash| filter.contains(hash)))
    }

    /// Bytes of a block or filter. The directory was checked: they lie in the file.
    fn slice(&self, offset: u64, len: usize) -> &[u8] {
        &self.0.file[offset as usize..offset as usize + len]
    }

    fn bytes(&self, offset: u64, len: usize, crc: u32, what: &'static str) -> Result<&[u8], SegmentError> {
        let bytes = self.slice(offset, len);
        // Each time: a page that was right once may come back from a failing disk as something else.
        if crc32c::crc32c(bytes) != crc {
            return Err(corrupt(&self.0.path, offset, Corruption::Checksum(what)));
        }
        Ok(bytes)
    }

    /// Everything that is wrong behind what [`LogSegmentReader::open`] verified, in the order of offsets: checksums of
    /// dictionary, blocks and filters and, where they hold, what the blocks decode to.
    pub fn damage(&self) -> Vec<SegmentError> {
        let mut damage = Vec::new();
        let numbers = 0..self.0.blocks.len();
        for number in numbers.clone() {
            let whole = |block: Block<'_>| block.verify().map_err(|source| self.fault(number, source));
            damage.extend(self.block(number).and_then(whole).err());
            damage.extend(self.may_hold(number, 0).err());
        }
        damage.extend(self.dict().err());
        if damage.is_empty() {
            damage.extend(numbers.filter_map(|number| self.rows(number, &Want::ALL).err()));
        }
        damage
    }

    /// An error about a block's content.
    pub fn fault(&self, number: usize, source: DecodeError) -> SegmentError {
        let offset = self.0.blocks[number].offset;
        let reason = match source {
            DecodeError::Checksum => Corruption::Checksum("block"),
            source => Corruption::Column { what: "block", source },
        };
        corrupt(&self.0.path, offset, reason)
    }
}

fn corrupt(path: &Path, offset: u64, reason: Corruption) -> SegmentError {
    SegmentError::Corrupt { path: path.to_owned(), offset, reason }
}

type Section = (Range<usize>, u32);

fn read_footer(mut footer: &[u8], end: usize) -> Option<(LogSummary, [Section; SECTIONS])> {
    let input = &mut footer;
    let (rows, streams) = (read_u64(input)?, read_u64(input)?);
    let span = (unzigzag(read_u64(input)?), unzigzag(read_u64(input)?));
    let mut section = || {
        let start = read_len(input)?;
        let range = start..start.checked_add(read_len(input)?)?;
        let crc = u32::from_le_bytes(read_bytes(input, 4)?.try_into().ok()?);
        (range.end <= end).then_some((range, crc))
    };
    let sections = [section()?, section()?];
    let ordered = sections[DICT].0.end <= sections[DIRECTORY].0.start && sections[DIRECTORY].0.end == end;
    (ordered && input.is_empty() && span.0 <= span.1)
        .then_some((LogSummary { rows, streams, span }, sections))
}

fn read_directory(mut input: &[u8], end: u64) -> Option<(Vec<String>, Vec<u64>, Vec<BlockEntry>)> {
    let input = &mut input;
    let mut tenants = Vec::new();
    for _ in 0..read_len(input)? {
        tenants.push(std::str::from_utf8(read_prefixed(input)?).ok()?.to_owned());
    }
    let templates = read_len(input).filter(|templates| *templates <= 1 << 24)?;
    let uses = columns::decode(read_prefixed(input)?, templates, Trust::Own).ok()?;
    let mut blocks: Vec<BlockEntry> = Vec::new();
    let mut next = 0u64;
    for _ in 0..read_len(input)? {
        let offset = next.checked_add(read_u64(input)?)?;
        let (len, filter_len, rows, tenant) =
            (read_len(input)?, read_len(input)?, read_len(input)?, read_len(input)?);
        next = offset.checked_add(len as u64)?.checked_add(filter_len as u64).filter(|next| *next <= end)?;
        let crc = u32::from_le_bytes(read_bytes(input, 4)?.try_into().ok()?);
        let filter_crc = u32::from_le_bytes(read_bytes(input, 4)?.try_into().ok()?);
        let checksum = u64::from_le_bytes(read_bytes(input, 8)?.try_into().ok()?);
        let first = unzigzag(read_u64(input)?);
        let span = (first, first.wrapping_add(read_u64(input)? as i64));
        let mut bodies = Vec::new();
        for _ in 0..read_len(input)? {
            let template = read_u64(input)?.checked_sub(1).map(u32::try_from).transpose().ok()?;
            if template.is_some_and(|template| template as usize >= templates) {
                return None;
            }
            bodies.push((template, u32::try_from(read_u64(input)?).ok()?));
        }
        let counted: u64 = bodies.iter().map(|(_, count)| u64::from(*count)).sum();
        let in_order = blocks.last().is_none_or(|last| last.tenant <= tenant);
        if tenant >= tenants.len() || span.0 > span.1 || counted != rows as u64 || rows == 0 || !in_order {
            return None;
        }
        blocks.push(BlockEntry {
            offset,
            len,
            crc,
            filter_len,
            filter_crc,
            rows,
            tenant,
            span,
            checksum,
            bodies,
        });
    }
    let uses = uses.into_iter().map(|uses| uses as u64).collect();
    input.is_empty().then_some((tenants, uses, blocks))
}
