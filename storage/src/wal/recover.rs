//! Opening: from segment files to a [`Ledger`], and the judgement whether a bad batch is a torn tail or damage.
//!
//! The rules, with the reasons in `format.md`:
//!
//! * A bad batch in the newest segment with nothing valid after it is a torn tail, never acknowledged: it is cut.
//! * A bad batch with something valid after it was synced once: damage. If its record headers are intact, the groups
//!   of the bad records are damaged. If not, and a later segment exists, that segment's checkpoint tells which groups
//!   lost something. If not, any group may have: all are suspect until they are removed.
//! * A read that fails is no judgement at all: opening fails.
//!
//! The replay itself ([`scan`]) changes nothing and notes every place that is not as it was written, also those that cost
//! nobody anything: [`super::check`] asks for these. What opening repairs, it repairs afterwards.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{META_GROUP, ShardId};

use super::format::{
    self, ALIGN, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchBuilder, BatchHeader, FLAG_CHECKPOINT,
    GroupCheckpoint, HeaderError, Kind, RecordHeader, SEAL_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::ledger::Ledger;
use super::state::SegmentFile;
use super::{Damage, Place, WalError, WalOptions};
use crate::fs::{Fs, FsFile, OpenMode};
use crate::mutant::{self, Mutant};

/// Read at once while replaying.
const WINDOW_BYTES: u64 = 1 << 20;
const SUFFIX: &str = ".log";
pub(super) const ASIDE_SUFFIX: &str = ".log.tmp";

/// What opening found.
pub(super) struct Recovered<F: Fs> {
    pub(super) ledger: Ledger,
    pub(super) segments: BTreeMap<u32, SegmentFile<F>>,
    /// Where the next batch goes, in the newest segment.
    pub(super) offset: u64,
    pub(super) lsn: u64,
    pub(super) salt: u64,
    /// Whether the last batch proves all before it.
    pub(super) marked: bool,
    pub(super) cache_bytes: usize,
}

/// File name of a segment.
pub(super) fn segment_name(sequence: u32) -> String {
    format!("wal-{sequence:08x}{SUFFIX}")
}

pub(super) fn segment_sequence(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(SUFFIX)?;
    let sequence = u32::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// Creates a segment, with a checkpoint of `ledger` as its first batch, and makes it durable under its name: it is
/// written aside, so that whatever bears a segment's name was whole once.
#[allow(clippy::too_many_arguments)]
pub(super) fn create_segment<F: Fs>(
    fs: &F,
    dir: &Path,
    segment_bytes: u64,
    sequence: u32,
    salt: u64,
    lsn: u64,
    durable_lsn: u64,
    ledger: &Ledger,
    needed_bytes: u64,
) -> Result<(SegmentFile<F>, u64), CreateError> {
    let groups = ledger.checkpoint();
    let mut builder = BatchBuilder::new(salt);
    builder.begin(groups.len() + usize::from(ledger.suspect.is_some()), 0, usize::MAX);
    if ledger.suspect.is_some() {
        let cleared = format::encode_cleared(ledger.cleared.iter().copied());
        builder.push(Kind::Suspect, META_GROUP, 0, &[], &cleared);
    }
    for (id, state) in groups {
        if mutant::is(Mutant::CheckpointIncomplete) {
            continue;
        }
        builder.push(Kind::Group, id, 0, &[], &state.encode());
    }
    let batch = builder.finish(lsn, durable_lsn, FLAG_CHECKPOINT);
    let end = SEGMENT_HEADER_BYTES as u64 + batch.len() as u64;
    let file_bytes = segment_bytes.max(end + needed_bytes + SEAL_BYTES).next_multiple_of(ALIGN);
    let mut bytes = SegmentHeader { sequence, salt, file_bytes }.encode().to_vec();
    bytes.extend_from_slice(batch);

    let path = dir.join(segment_name(sequence));
    let aside = dir.join(format!("wal-{sequence:08x}{ASIDE_SUFFIX}"));
    let write = || -> io::Result<F::File> {
        if fs.exists(&aside)? {
            fs.remove_file(&aside)?;
        }
        let file = fs.open(&aside, OpenMode::CreateNew)?;
        file.allocate(file_bytes)?;
        file.write_all_at(0, &bytes)?;
        file.sync_data()?;
        Ok(file)
    };
    let file = match write() {
        Ok(file) => file,
        Err(e) => {
            // Space that the attempt took is wanted back; where even that fails, the next open removes the file.
            let _ = fs.remove_file(&aside);
            return Err(CreateError { error: WalError::io(&aside, "creating a segment", e), harmless: true });
        }
    };
    let name = || -> io::Result<()> {
        fs.rename(&aside, &path)?;
        if mutant::is(Mutant::DirectoryNotSynced) { Ok(()) } else { fs.sync_dir(dir) }
    };
    name().map_err(|e| CreateError { error: WalError::io(&path, "naming a segment", e), harmless: false })?;
    Ok((SegmentFile { path, file: Arc::new(file), len: file_bytes }, end))
}

/// Why a segment was not created.
pub(super) struct CreateError {
    pub(super) error: WalError,
    /// Nothing of it can be seen by the next open.
    pub(super) harmless: bool,
}

/// Reads the log in `dir`, or begins one there.
pub(super) fn recover<F: Fs>(fs: &F, dir: &Path, options: &WalOptions) -> Result<Recovered<F>, WalError> {
    fs.create_dir_durable(dir).map_err(|e| WalError::io(dir, "creating the directory", e))?;
    let mut files = Vec::new();
    for entry in fs.list(dir).map_err(|e| WalError::io(dir, "listing the directory", e))? {
        let path = dir.join(&entry.name);
        if entry.name.ends_with(ASIDE_SUFFIX) {
            fs.remove_file(&path).map_err(|e| WalError::io(&path, "removing an unfinished segment", e))?;
        } else if let Some(sequence) = segment_sequence(&entry.name) {
            files.push(Opened::open(fs, path, sequence, OpenMode::ReadWrite)?);
        }
    }
    // A killed process may have left names and bytes that only the kernel knows. What is replayed below will be
    // counted on, so it has to be durable first.
    fs.sync_dir(dir).map_err(|e| WalError::io(dir, "syncing the directory", e))?;

    let Scanned { replay, tail } = scan(&files, options.salt)?;
    if let (Some(newest), Tail::Torn { from, end }) = (files.last(), &tail) {
        wipe(newest, *from, *end)?;
    }
    let Replay { salt, ledger, lsn, marked, last_batch, .. } = replay;
    let mut segments: BTreeMap<u32, SegmentFile<F>> = BTreeMap::new();
    for file in files {
        segments
            .insert(file.sequence, SegmentFile { path: file.path, file: Arc::new(file.file), len: file.len });
    }
    let (offset, lsn) = match segments.last_key_value() {
        Some((_, newest)) => {
            write_again(&*newest.file, last_batch).map_err(|e| WalError::io(&newest.path, "syncing", e))?;
            (tail.offset(), lsn)
        }
        None => {
            let (segment, end) = create_segment(fs, dir, options.segment_bytes, 1, salt, 1, 0, &ledger, 0)
                .map_err(|e| e.error)?;
            segments.insert(1, segment);
            (end, 1)
        }
    };
    Ok(Recovered { ledger, segments, offset, lsn, salt, marked, cache_bytes: options.cache_bytes })
}

/// What the files say.
pub(super) struct Scanned {
    pub(super) replay: Replay,
    pub(super) tail: Tail,
}

/// How the newest segment ends.
pub(super) enum Tail {
    /// The next batch goes here; only zeros follow. Or nothing is appended to that file any more.
    Clean(u64),
    /// A crash left something that is not zero after the last intact batch.
    Torn { from: u64, end: u64 },
}

impl Tail {
    /// Where the next batch goes.
    const fn offset(&self) -> u64 {
        match self {
            Self::Clean(offset) => *offset,
            Self::Torn { from, .. } => *from,
        }
    }
}

/// Replays segments, in order. Changes nothing. `new_salt` is the salt where no segment tells.
pub(super) fn scan<F: Fs>(files: &[Opened<F>], new_salt: u64) -> Result<Scanned, WalError> {
    let salt = match files.iter().find_map(|file| file.header.map(|header| header.salt)) {
        Some(salt) => salt,
        None => find_salt(files)?.unwrap_or(new_salt),
    };
    let mut replay = Replay {
        salt,
        ledger: Ledger::default(),
        rotten: Vec::new(),
        noted: Vec::new(),
        lsn: 0,
        marked: true,
        sealed: false,
        last_batch: None,
    };
    let mut tail = Tail::Clean(0);
    let firsts = files.iter().map(|file| file.first_lsn(salt)).collect::<Result<Vec<_>, _>>()?;
    for (at, file) in files.iter().enumerate() {
        let next_lsn = firsts.get(at + 1).copied();
        tail = replay.segment(file, at == 0, next_lsn)?;
    }
    replay.finish();
    Ok(Scanned { replay, tail })
}

/// Zeroes what a crash left after the last intact batch, so that no later batch is followed by it.
fn wipe<F: Fs>(file: &Opened<F>, from: u64, end: u64) -> Result<(), WalError> {
    tracing::info!(path = %file.path.display(), offset = from, bytes = end - from, "cut a torn tail");
    let zeros = vec![0; WINDOW_BYTES.min(end - from) as usize];
    let mut at = from;
    while at < end {
        let count = (zeros.len() as u64).min(end - at);
        file.file
            .write_all_at(at, &zeros[..count as usize])
            .map_err(|e| WalError::io(&file.path, "cutting a torn tail", e))?;
        at += count;
    }
    file.file.sync_data().map_err(|e| WalError::io(&file.path, "syncing", e))
}

/// Makes the last batch durable. After a sync that failed, the kernel may count pages as clean that never reached the
/// disk: a process that starts on the same kernel reads them, and another sync does nothing about them. So they are
/// written again. Every batch before the last was synced when the last one was begun.
fn write_again(file: &impl FsFile, batch: Option<Range<u64>>) -> io::Result<()> {
    if let Some(batch) = batch {
        let mut bytes = vec![0; (batch.end - batch.start) as usize];
        file.read_exact_at(batch.start, &mut bytes)?;
        file.write_all_at(batch.start, &bytes)?;
    }
    file.sync_data()
}

/// The salt of a log none of whose segments has an intact header.
fn find_salt<F: Fs>(files: &[Opened<F>]) -> Result<Option<u64>, WalError> {
    for file in files {
        let mut window = file.window();
        let first = window.batch(SEGMENT_HEADER_BYTES as u64, None).map_err(|e| file.failed(e))?;
        if let Some((header, _)) = first {
            return Ok(Some(header.salt));
        }
    }
    Ok(None)
}

/// A segment file that was found.
pub(super) struct Opened<F: Fs> {
    pub(super) path: PathBuf,
    pub(super) sequence: u32,
    file: F::File,
    pub(super) len: u64,
    header: Option<SegmentHeader>,
}

impl<F: Fs> Opened<F> {
    pub(super) fn open(fs: &F, path: PathBuf, sequence: u32, mode: OpenMode) -> Result<Self, WalError> {
        let opened = || -> io::Result<_> {
            let file = fs.open(&path, mode)?;
            let len = file.len()?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            if len >= SEGMENT_HEADER_BYTES as u64 {
                file.read_exact_at(0, &mut bytes)?;
            }
            Ok((file, len, bytes))
        };
        let (file, len, bytes) = opened().map_err(|e| WalError::io(&path, "opening", e))?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => Some(header).filter(|header| header.sequence == sequence),
            Err(HeaderError::Damaged) => None,
            Err(HeaderError::Version(version)) => return Err(WalError::Version { path, version }),
        };
        Ok(Self { path, sequence, file, len, header })
    }

    fn window(&self) -> Window<'_, F::File> {
        Window { file: &self.file, len: self.len, start: 0, bytes: Vec::new() }
    }

    fn failed(&self, error: io::Error) -> WalError {
        WalError::io(&self.path, "reading", error)
    }

    pub(super) fn damage(&self, offset: u64, reason: &str) -> Damage {
        Damage { path: self.path.clone(), offset, reason: reason.to_owned() }
    }

    /// Number of the checkpoint batch, as far as it can be read.
    fn first_lsn(&self, salt: u64) -> Result<Option<u64>, WalError> {
        let first =
            self.window().batch(SEGMENT_HEADER_BYTES as u64, Some(salt)).map_err(|e| self.failed(e))?;
        Ok(first.map(|(header, _)| header.lsn))
    }
}

/// Bytes of a file, read in large pieces.
struct Window<'a, File> {
    file: &'a File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<File: FsFile> Window<'_, File> {
    /// The bytes at an offset; `None` if the file ends before.
    fn get(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(count as u64).filter(|end| *end <= self.len) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let want = (count as u64).max(WINDOW_BYTES).min(self.len - offset);
            self.bytes.resize(want as usize, 0);
            self.start = offset;
            if let Err(e) = self.file.read_exact_at(offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(e);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.bytes[at..at + count]))
    }

    /// The batch at an offset, if its header and record headers are intact. Payloads are not looked at.
    fn batch(&mut self, at: u64, salt: Option<u64>) -> io::Result<Option<(BatchHeader, Vec<RecordHeader>)>> {
        let Some(bytes) = self.get(at, BATCH_HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = BatchHeader::parse(bytes) else { return Ok(None) };
        if salt.is_some_and(|salt| salt != header.salt) || header.total_bytes() > self.len - at {
            return Ok(None);
        }
        let Some(head) = self.get(at, header.head_bytes())? else { return Ok(None) };
        Ok(header.records(head).map(|records| (header, records)))
    }

    /// Whether a record's bytes are intact, and the bytes if it is no entry.
    fn payload(&mut self, at: u64, record: &RecordHeader, salt: u64) -> io::Result<Option<Bytes>> {
        let mut crc = record.seed(salt);
        let mut offset = at + record.offset;
        let mut rest = u64::from(record.len);
        let mut kept = Vec::new();
        while rest > 0 {
            let count = rest.min(WINDOW_BYTES);
            let Some(bytes) = self.get(offset, count as usize)? else { return Ok(None) };
            crc = crc32c::crc32c_append(crc, bytes);
            if !record.kind.is_entry() {
                kept.extend_from_slice(bytes);
            }
            offset += count;
            rest -= count;
        }
        Ok((crc == record.crc).then(|| kept.into()))
    }

    /// The first intact batch from an offset on that is newer than `lsn`.
    fn find_batch(&mut self, from: u64, lsn: u64, salt: u64) -> io::Result<Option<(u64, u64)>> {
        let mut at = from.next_multiple_of(ALIGN);
        while self.len.saturating_sub(at) >= BATCH_HEADER_BYTES as u64 {
            // What the window still holds is searched before more is read: bytes full of magic must not cost a read
            // each.
            let held = (self.start + self.bytes.len() as u64).saturating_sub(at);
            let count =
                if at >= self.start && held >= ALIGN { held } else { WINDOW_BYTES.min(self.len - at) };
            let Some(bytes) = self.get(at, count as usize)? else { return Ok(None) };
            let step = ALIGN as usize;
            let Some(hit) = bytes.chunks(step).position(|chunk| chunk.starts_with(&BATCH_MAGIC)) else {
                // Down to the alignment, so that a magic over the window's end is seen by the next.
                at += (count / ALIGN).max(1) * ALIGN;
                continue;
            };
            at += (hit * step) as u64;
            if let Some((header, _)) = self.batch(at, Some(salt))?
                && header.lsn > lsn
            {
                return Ok(Some((at, header.lsn)));
            }
            at += ALIGN;
        }
        Ok(None)
    }

    /// The end of what is not zero from an offset on.
    fn dirty_end(&mut self, from: u64) -> io::Result<u64> {
        let mut end = from;
        let mut at = from;
        while at < self.len {
            let count = WINDOW_BYTES.min(self.len - at);
            let Some(bytes) = self.get(at, count as usize)? else { break };
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += count;
        }
        Ok(end)
    }
}

/// The replay of all segments.
pub(super) struct Replay {
    salt: u64,
    pub(super) ledger: Ledger,
    /// Entries whose bytes are bad: they matter only if nobody purged or truncated them later.
    rotten: Vec<(ShardId, u64, Place, Damage)>,
    /// Places that are not as they were written, whether or not anybody lost something by it; and whose record it was, where
    /// that is known.
    pub(super) noted: Vec<(Damage, Option<ShardId>)>,
    lsn: u64,
    marked: bool,
    /// Whether the last batch was a seal.
    sealed: bool,
    /// The last intact batch of the segment that was replayed last.
    last_batch: Option<Range<u64>>,
}

impl Replay {
    /// Replays a segment. `next` is the first batch number of the following segment, if there is a segment and if it
    /// can be read. Says how the segment ends.
    fn segment<F: Fs>(
        &mut self,
        file: &Opened<F>,
        is_first: bool,
        next: Option<Option<u64>>,
    ) -> Result<Tail, WalError> {
        let mut window = file.window();
        let is_newest = next.is_none();
        let mut at = SEGMENT_HEADER_BYTES as u64;
        let mut unusable = None;
        self.last_batch = None;
        match file.header {
            None => unusable = Some("the segment's header is damaged"),
            Some(header) if header.file_bytes > file.len => unusable = Some("the file was cut"),
            Some(_) => {}
        }
        if let Some(reason) = unusable {
            self.noted.push((file.damage(0, reason), None));
            if is_newest {
                self.ledger.mark_suspect(file.damage(0, reason));
            }
        }
        let mut due = None;
        loop {
            let found = window.batch(at, Some(self.salt)).map_err(|e| file.failed(e))?;
            match found.filter(|(header, _)| due.map_or(header.lsn > self.lsn, |due| header.lsn == due)) {
                Some((header, records)) => {
                    let is_start = at == SEGMENT_HEADER_BYTES as u64;
                    if !self.batch(file, &mut window, at, &header, &records, is_start, is_first, is_newest)? {
                        break;
                    }
                    self.lsn = header.lsn;
                    self.last_batch = Some(at..at + header.total_bytes());
                    due = Some(header.lsn + 1);
                    at += header.total_bytes();
                }
                None => {
                    let complete =
                        next.flatten().is_some_and(|next| next == self.lsn + if self.sealed { 1 } else { 2 });
                    if complete {
                        break;
                    }
                    let later = window.find_batch(at, self.lsn, self.salt).map_err(|e| file.failed(e))?;
                    let Some((found_at, lsn)) = later else {
                        if let Some(Some(next)) = next {
                            let reason =
                                format!("batches before {next}, where the next segment begins, are lost");
                            self.noted.push((file.damage(at, &reason), None));
                        }
                        break;
                    };
                    let reason = format!("unreadable up to offset {found_at}, where batch {lsn} follows");
                    self.noted.push((file.damage(at, &reason), None));
                    if is_newest {
                        self.ledger.mark_suspect(file.damage(at, &reason));
                    }
                    at = found_at;
                    due = Some(lsn);
                }
            }
        }
        if is_newest {
            if at == SEGMENT_HEADER_BYTES as u64 {
                // It bears its name, so its checkpoint was synced once.
                self.ledger.mark_suspect(file.damage(at, "the checkpoint is damaged"));
                unusable = Some("no checkpoint");
            }
            if self.sealed {
                self.ledger.mark_suspect(file.damage(at, "the segment after this one is missing"));
            }
            if unusable.is_some() || self.sealed {
                // Nothing is appended to such a file.
                return Ok(Tail::Clean(file.len));
            }
            let end = window.dirty_end(at).map_err(|e| file.failed(e))?;
            if end > at {
                return Ok(Tail::Torn { from: at, end });
            }
        }
        Ok(Tail::Clean(at))
    }

    /// Replays a batch whose headers are intact. `false` if it is a torn tail.
    #[allow(clippy::too_many_arguments)]
    fn batch<F: Fs>(
        &mut self,
        file: &Opened<F>,
        window: &mut Window<'_, F::File>,
        at: u64,
        header: &BatchHeader,
        records: &[RecordHeader],
        is_start: bool,
        is_first: bool,
        is_newest: bool,
    ) -> Result<bool, WalError> {
        let payload_at = at + header.head_bytes() as u64;
        let mut bodies = Vec::with_capacity(records.len());
        for record in records {
            bodies.push(window.payload(payload_at, record, self.salt).map_err(|e| file.failed(e))?);
        }
        let is_checkpoint = header.flags & FLAG_CHECKPOINT != 0;
        let is_torn = bodies.iter().any(Option::is_none) && is_newest && !is_start;
        if is_torn {
            let end = at + header.total_bytes();
            let later = window.find_batch(end, header.lsn, self.salt).map_err(|e| file.failed(e))?;
            if later.is_none() {
                return Ok(false);
            }
        }
        let damage = |reason: &str| file.damage(at, reason);
        if is_checkpoint {
            self.checkpoint(records, &bodies, is_first && is_start, damage);
        } else if is_start {
            self.ledger.mark_suspect(damage("the first batch is no checkpoint"));
        }
        for (record, body) in records.iter().zip(&bodies) {
            if body.is_none() {
                let reason = format!("a record of group {} is bad", record.group);
                self.noted.push((file.damage(payload_at + record.offset, &reason), Some(record.group)));
            }
            if is_checkpoint {
                continue;
            }
            let place = Place {
                segment: file.sequence,
                // A file of more than 4 GiB is not one of ours; its batches end before.
                offset: u32::try_from(payload_at + record.offset).unwrap_or(u32::MAX),
                len: record.len,
                crc: record.crc,
                head_len: record.head_len,
            };
            match body {
                Some(body) => self.ledger.apply(record, place, body, damage),
                None if record.kind.is_entry() => {
                    let reason = format!("entry {} is bad", record.index);
                    self.rotten.push((record.group, record.index, place, damage(&reason)));
                    self.ledger.apply(record, place, &[], damage);
                }
                None => self.ledger.mark_corrupt(record.group, damage("a record is bad")),
            }
        }
        self.sealed = records.iter().any(|record| record.kind == Kind::Seal);
        self.marked =
            is_checkpoint || records.iter().all(|record| matches!(record.kind, Kind::Mark | Kind::Seal));
        Ok(true)
    }

    fn checkpoint(
        &mut self,
        records: &[RecordHeader],
        bodies: &[Option<Bytes>],
        is_first: bool,
        damage: impl Fn(&str) -> Damage,
    ) {
        let mut states = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (record, body) in records.iter().zip(bodies) {
            let body = body.as_deref();
            match record.kind {
                Kind::Group => match body.and_then(GroupCheckpoint::decode) {
                    Some(state) => {
                        states.insert(record.group, state);
                    }
                    None => unreadable.push(record.group),
                },
                Kind::Suspect => {
                    let cleared = body.and_then(format::decode_cleared);
                    if self.ledger.suspect.is_none() || cleared.is_none() {
                        self.ledger.mark_suspect(damage("an older segment was unreadable"));
                        self.ledger.cleared.extend(cleared.into_iter().flatten());
                    }
                }
                _ => self.ledger.mark_suspect(damage("a checkpoint holds another record")),
            }
        }
        if is_first {
            for (id, state) in states {
                self.ledger.load(id, state, &damage);
            }
        } else {
            self.ledger.compare(states, &damage);
        }
        // Last, as a comparison would take the absence for the truth.
        for group in unreadable {
            self.ledger.mark_corrupt(group, damage("its checkpoint is bad"));
        }
    }

    /// Judges what could only be judged at the end.
    fn finish(&mut self) {
        for (group, index, place, damage) in std::mem::take(&mut self.rotten) {
            if self.ledger.groups.get(&group).is_some_and(|group| group.holds(index, place)) {
                self.ledger.mark_corrupt(group, damage);
            }
        }
        self.ledger.find_missing();
    }
}
