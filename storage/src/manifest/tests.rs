use super::*;
use proptest::prelude::*;
use protocol::matcher::Matcher;

fn file(n: u8, kind: FileKind) -> FileRef {
    FileRef { hash: [n; 32], len_bytes: u64::from(n) * 1000, kind }
}

fn segment(n: u8) -> SegmentMeta {
    SegmentMeta {
        file: file(n, FileKind::Segment),
        partition: Partition::of_metric(i64::from(n) * PARTITION_MS - 1),
        log_after: u64::from(n),
        log_last: u64::from(n) + 300,
        min_time: -5,
        max_time: i64::MAX,
        series: 3,
        samples: 9,
        deleted_upto: 2,
    }
}

/// One of everything. Its bytes are the fixture `manifest/v1.bin`.
fn sample() -> Manifest {
    Manifest {
        shard: ShardId(3),
        flushed: Some(Position {
            index: LogIndex(700),
            log_id: Bytes::from_static(b"log id"),
            membership: Bytes::from_static(b"members"),
        }),
        op_index: 710,
        cluster_time_ms: -1,
        generation: 2,
        registry: vec![
            RegistryFile { file: file(1, FileKind::Registry), first: 0, count: 5 },
            RegistryFile { file: file(2, FileKind::Registry), first: 5, count: 1 },
        ],
        metadata: Some(file(3, FileKind::Metadata)),
        segments: vec![segment(4), segment(5)],
        merges: vec![PendingMerge {
            job: LogIndex(9),
            encoder_epoch: 1,
            inputs: vec![[4; 32], [5; 32]],
            over: TenantsOver::default(),
        }],
        tombstones: vec![Tombstone {
            index: 8,
            tenant: TenantId::default(),
            matchers: vec![Matcher::equal("a", "b")],
            start_ms: i64::MIN,
            end_ms: 7,
        }],
        log_tombstones: Vec::new(),
        duplicates: 1,
        flushed_bytes: 2,
        merged_bytes: 3,
        window: None,
        span_metrics: None,
    }
}

/// One of everything, logs among it.
fn sample_with_logs() -> Manifest {
    let mut logs = segment(6);
    logs.partition = Partition::of_row(RowSignal::Logs, PARTITION_MS);
    let segments = vec![segment(4), segment(5), logs];
    Manifest { segments, window: Some(file(7, FileKind::Window)), ..sample() }
}

#[test]
fn round_trips() {
    let only_window = Manifest { window: sample_with_logs().window, ..Manifest::empty(ShardId(1)) };
    let mut with_spans = sample_with_logs();
    let mut spans = segment(8);
    spans.partition = Partition::of_row(RowSignal::Spans, PARTITION_MS);
    with_spans.segments.push(spans);
    with_spans.span_metrics = Some(file(9, FileKind::SpanMetrics));
    assert_eq!(with_spans.encode()[7], 4, "builds that know nothing of spans refuse it");
    assert!(sample_with_logs().encode()[7] < 4);
    let mut left_out = sample_with_logs();
    left_out.merges[0].over = TenantsOver {
        left_out: vec![TenantId::default(), TenantId::new("other").expect("a valid name")],
        rolled_up: vec![TenantId::default()],
    };
    assert_eq!(left_out.encode()[7], VERSION, "builds that would not leave anybody out refuse it");
    for manifest in
        [sample(), sample_with_logs(), with_spans, left_out, only_window, Manifest::empty(ShardId(1))]
    {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }
}

#[test]
fn reads_what_earlier_builds_wrote() {
    let fixture = include_bytes!("v1.bin");
    assert_eq!(Manifest::decode(fixture), Ok(sample()));
    assert_eq!(sample().encode(), fixture, "version 1 is written byte for byte as before");
}

#[test]
fn a_job_output_round_trips_and_no_prefix_passes() {
    let (window, metrics) = (sample_with_logs().window, Some(file(9, FileKind::SpanMetrics)));
    for (window, span_metrics) in [(None, None), (window, None), (window, metrics)] {
        let output = JobOutput {
            segments: vec![segment(1)],
            registry: sample().registry.first().copied(),
            metadata: sample().metadata,
            duplicates: 300,
            window,
            span_metrics,
        };
        let bytes = output.encode();
        assert_eq!(JobOutput::decode(&bytes), Some(output));
        for cut in 0..bytes.len() {
            assert_eq!(JobOutput::decode(&bytes[..cut]), None);
        }
    }
}

#[test]
fn partitions_tile_time() {
    for time in [-1, 0, 1, PARTITION_MS - 1, PARTITION_MS, i64::MIN, i64::MAX] {
        let (start, end) = Partition::of_metric(time).span();
        assert!(start <= time && time <= end, "{time} in {start}..={end}");
    }
    assert_ne!(Partition::of_metric(-1), Partition::of_metric(0));
}

#[test]
fn a_later_releases_manifest_is_no_damage() {
    let mut bytes = sample().encode();
    let end = bytes.len() - 4;
    bytes[7] = VERSION + 1;
    assert_eq!(Manifest::decode(&bytes), Err("the checksum is wrong".into()), "a flipped bit is damage");
    let checksum = crc32c::crc32c(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    let error = Manifest::decode(&bytes).expect_err("not known here").of_file("manifest");
    assert!(matches!(error, StorageError::Version { version: 6, known: 5, .. }), "{error}");
    assert!(!error.is_damage());
}

proptest! {
    #[test]
    fn any_flipped_bit_is_found(at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = sample_with_logs().encode();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(Manifest::decode(&bytes).is_err());
        prop_assert!(Manifest::decode(&bytes[..position]).is_err());
    }

    #[test]
    fn a_body_with_a_right_checksum_is_taken_or_refused(at: prop::sample::Index, byte: u8) {
        let mut bytes = sample_with_logs().encode();
        let end = bytes.len() - 4;
        bytes[at.index(end)] = byte;
        let checksum = crc32c::crc32c(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
        let _ = Manifest::decode(&bytes);
        let _ = JobOutput::decode(&bytes);
    }
}

#[test]
fn names_of_files_are_read_back() {
    for kind in FileKind::ALL {
        let file = FileRef::of(b"content", kind);
        assert_eq!(FileRef::parse(&file.name(), file.len_bytes), Some(file));
    }
    for bad in
        ["", "manifest", "00.seg", &format!("{}.exe", hex(&[0; 32])), &format!("../{}.seg", hex(&[0; 32]))]
    {
        assert_eq!(FileRef::parse(bad, 1), None, "{bad}");
    }
}
