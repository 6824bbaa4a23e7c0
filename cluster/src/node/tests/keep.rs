//! What looks at data from outside: captured shards, and data directories of nodes that do not run.

use std::path::Path;

use storage::archive::Archive;
use storage::fs::Fs;
use storage::fs::mem::MemFs;
use storage::manifest::Manifest;

use super::harness::{Cluster, GUARD, dump, wait};
use super::*;
use crate::verify::verify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_shard_holds_what_was_acknowledged_and_any_node_gives_its_files() {
    let mut cluster = Cluster::of(3, 2).await;
    let mut written = cluster.write(0).await;
    written.extend(cluster.write(1).await);
    let mut found = Vec::new();
    for index in 0..3 {
        let node = cluster.node(index);
        found.clear();
        for shard in [1, 2].map(ShardId) {
            let bytes = node.capture(shard, GUARD).await.expect("a healthy shard is captured");
            let manifest = Manifest::decode(&bytes).expect("a manifest");
            assert_eq!(manifest.shard, shard);
            let (fs, dir) = (MemFs::new(1), Path::new("/copy"));
            fs.create_dir_all(&dir.join("files")).expect("a directory");
            for file in manifest.files() {
                let mut content = Vec::new();
                while (content.len() as u64) < file.len_bytes {
                    let piece =
                        node.file_piece(shard, file, content.len() as u64).await.expect("somebody answers");
                    content.extend_from_slice(&piece.expect("the file is there"));
                }
                fs.write_atomic(&dir.join("files").join(file.name()), &content).expect("writable");
            }
            let archive = Archive::open(&fs, dir, manifest).expect("whole files");
            assert!(!archive.tenants().is_empty());
            found.extend(dump(archive.snapshot()));
        }
        assert_eq!(sorted(found.clone()), sorted(written.clone()), "through node {index}");
    }
    let node = cluster.node(0);
    let nothing = storage::manifest::FileRef::of(b"nothing", storage::manifest::FileKind::Segment);
    assert_eq!(node.file_piece(ShardId(1), nothing, 0).await.expect("all say so"), None);
    assert!(matches!(node.capture(ShardId(9), GUARD).await, Err(ClusterError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_a_data_directory_is_named_whichever_part_it_is() {
    let mut cluster = Cluster::of(1, 2).await;
    cluster.write(0).await;
    cluster.node(0).force_flush(GUARD).await.expect("a healthy node flushes");
    wait("the log is purged", || {
        (1..=2).all(|s| {
            let group = cluster.node(0).group(ShardId(s));
            group.is_some_and(|group| group.with_metrics(|m| m.purged.is_some()))
        })
    })
    .await;
    cluster.write(0).await;
    cluster.kill(0).await;
    let (fs, dir) = (&cluster.machines[0].fs, Path::new("/data"));
    let operations = fs.op_count();
    let report = verify(fs, dir).expect("a data directory");
    assert_eq!(report.findings.damage, []);
    assert_eq!((report.node, report.shards), (Some(NodeId(1)), 2));
    assert_eq!(fs.op_count(), operations, "nothing is written");

    let segments = dir.join("shards/1/files");
    let segment =
        fs.list(&segments).expect("a listing").into_iter().find(|entry| entry.name.ends_with(".seg"));
    let segment = segments.join(segment.expect("it was flushed").name);
    let log = dir.join("wal/wal-00000001.log");
    for path in [dir.join("identity.json"), dir.join("shards/2/manifest"), segment, log.clone()] {
        let fs = fs.fork(1);
        // Every file has more bytes than that, all of them checked.
        fs.flip_bit(&path, 60, 2).expect("a byte");
        let report = verify(&fs, dir).expect("a data directory");
        assert!(report.findings.damage.iter().any(|finding| finding.path == path), "{path:?}: {report:?}");
    }
    let lost = fs.fork(2);
    let manifest = dir.join("shards/1/manifest");
    lost.delete(&manifest).expect("there");
    let damage = verify(&lost, dir).expect("a data directory").findings.damage;
    assert!(
        damage.iter().any(|f| f.path == manifest && f.reason.contains("the log was purged")),
        "{damage:?}"
    );
    assert_eq!(verify(&MemFs::new(1), dir), None, "an empty disk is no data directory");
}
