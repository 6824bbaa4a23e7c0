//! What the model test does not look at: listings, metadata, exemplars, start times, tenants.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use protocol::batch::{Metadata, MetricType, SeriesRef, SubBatchBuilder};
use protocol::command::encode_write;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::{MatchOp, Matcher};

use super::super::*;
use super::harness::*;
use crate::scan::TallyBy;
use crate::segment::Exemplar;
use crate::tally::Tally;

fn tenant() -> TenantId {
    TenantId::default()
}

fn set(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
}

/// Applies what `fill` puts into a batch.
fn apply(replica: &mut Replica, of: &TenantId, fill: impl FnOnce(&mut SubBatchBuilder)) {
    let mut builder = SubBatchBuilder::new(of.clone(), 0);
    fill(&mut builder);
    replica.apply_bytes(&encode_write(
        CommandHeader { encoder_epoch: 1, cluster_time_ms: 0 },
        &[builder.finish()],
    ));
}

fn new_series(builder: &mut SubBatchBuilder, of: &TenantId, labels: &Labels) -> SeriesRef {
    builder.push_new_series(labels.series_id(&SECRET, of), labels)
}

/// Runs a check on a replica three times: data in the active memtable, frozen, in a segment. And merged with more.
fn everywhere(mut write: impl FnMut(&mut Replica), check: impl Fn(&StoreSnapshot, &str)) {
    let mut replica = Replica::new();
    write(&mut replica);
    check(&replica.store.snapshot(), "active memtable");
    replica.begin_flush(false);
    check(&replica.store.snapshot(), "frozen memtable");
    replica.settle();
    check(&replica.store.snapshot(), "segment");
    write(&mut replica);
    check(&replica.store.snapshot(), "segment and the same again in the memtable");
    replica.begin_flush(true);
    replica.settle_with(&FlushPolicy { merge_all: true, max_age_ms: i64::MAX, ..FlushPolicy::default() });
    assert_eq!(replica.store.stats().segments, 1);
    check(&replica.store.snapshot(), "merged");
    let reopened = open(&replica.fs).expect("opens");
    check(&reopened.snapshot(), "opened again");
}

#[test]
fn values_are_read_for_counting_only_where_something_may_hide_them() {
    let counted = |replica: &Replica, range: (i64, i64), by| {
        let mut all = Tally::default();
        let visit = &mut |_: &Labels, tally: &Tally| {
            all.add(tally);
            ControlFlow::Continue(())
        };
        replica.store.snapshot().tally(&tenant(), &[], range.0, range.1, by, visit).expect("readable");
        (all.samples, all.first_ms, all.last_ms, all.read_samples)
    };
    let both = |replica: &Replica, range| {
        let of_series = counted(replica, range, TallyBy::Series);
        assert_eq!(counted(replica, range, TallyBy::Nothing), of_series);
        of_series
    };
    let flush = |replica: &mut Replica| {
        replica.begin_flush(false);
        replica.settle();
    };
    let mut replica = Replica::new();
    let all = (i64::MIN, i64::MAX);
    let stale = protocol::sample::stale_nan();
    replica.write(&[("a", 10, 1.0), ("a", 20, 2.0), ("a", 30, stale), ("b", 20, 1.0)]);
    assert_eq!(both(&replica, all), (3, 10, 20, 4), "what is in memory is read");
    flush(&mut replica);
    assert_eq!(both(&replica, all), (3, 10, 20, 0), "a segment tells by itself");
    assert_eq!(both(&replica, (11, 19)), (0, i64::MAX, i64::MIN, 0));
    assert_eq!(both(&replica, (20, 30)), (2, 20, 20, 0), "and so do its edges");
    // Another of later times.
    replica.write(&[("a", 40, 1.0), ("b", 50, 2.0)]);
    flush(&mut replica);
    assert_eq!(both(&replica, all), (5, 10, 50, 0), "and another");
    // One that overlaps both, none of whose series do: `a` lies in the gap between the other two.
    replica.write(&[("a", 35, 1.0), ("c", 10, 1.0), ("c", 50, 1.0)]);
    flush(&mut replica);
    assert_eq!(both(&replica, all), (8, 10, 50, 0), "series that do not overlap are counted apart");
    // The same sample again, and a marker too late: the first written counts.
    replica.write(&[("a", 20, 2.0), ("a", 40, stale)]);
    flush(&mut replica);
    assert_eq!(replica.store.stats().segments, 4);
    let (samples, first, last, read) = both(&replica, all);
    assert_eq!((samples, first, last), (8, 10, 50));
    assert!(read > 0 && read < 8, "the series that overlaps itself is read, not the others: {read}");
    // A delete hides what it names until a merge.
    replica.apply(CommandBody::DeleteSeries {
        tenant: tenant(),
        matchers: vec![Matcher::equal("s", "c")],
        start_ms: 0,
        end_ms: 10,
    });
    replica.settle();
    assert_eq!(both(&replica, all).0, 7);
}

#[test]
fn listings_see_memtables_and_segments() {
    let write = |replica: &mut Replica| {
        for (name, of) in
            [("up", tenant()), ("down", tenant()), ("secret", TenantId::new("other").expect("valid"))]
        {
            apply(replica, &of, |builder| {
                for (job, time) in [("a", 10), ("b", 20)] {
                    let series =
                        new_series(builder, &of, &set(&[("__name__", name), ("job", job), (name, "x")]));
                    builder.push_float(series, time, 1.0, 0);
                }
            });
        }
    };
    everywhere(write, |snapshot, what| {
        let all = (i64::MIN, i64::MAX);
        let names = snapshot.label_names(&tenant(), &[], all.0, all.1).expect("readable");
        assert_eq!(names, BTreeSet::from(["__name__", "down", "job", "up"].map(str::to_owned)), "{what}");
        let up = [Matcher::equal("__name__", "up")];
        let names = snapshot.label_names(&tenant(), &up, all.0, all.1).expect("readable");
        assert_eq!(names, BTreeSet::from(["__name__", "job", "up"].map(str::to_owned)), "{what}");
        let jobs = snapshot.label_values(&tenant(), "job", &[], all.0, all.1).expect("readable");
        assert_eq!(jobs, BTreeSet::from(["a", "b"].map(str::to_owned)), "{what}");
        let none = snapshot.label_values(&tenant(), "job", &[], 30, 40).expect("readable");
        assert!(none.is_empty(), "{what}");

        let mut found = Vec::new();
        let matchers = [Matcher::new("job", MatchOp::NotEqual, "b").expect("valid")];
        let visit = &mut |labels: &Labels| {
            found.push(labels.to_string());
            ControlFlow::Continue(())
        };
        snapshot.series(&tenant(), &matchers, 0, 15, visit).expect("readable");
        assert_eq!(found, [r#"down{down="x", job="a"}"#, r#"up{job="a", up="x"}"#], "{what}");
        let mut first = 0;
        let stop = &mut |_: &Labels| {
            first += 1;
            ControlFlow::Break(())
        };
        snapshot.series(&tenant(), &[], all.0, all.1, stop).expect("readable");
        assert_eq!(first, 1);
    });
}

#[test]
fn the_latest_metadata_of_a_family_counts() {
    let write = |replica: &mut Replica| {
        for help in ["Old.", "New."] {
            apply(replica, &tenant(), |builder| {
                for family in ["a", "b"] {
                    builder.push_metadata(&Metadata {
                        family,
                        metric_type: MetricType::Gauge,
                        help,
                        unit: "bytes",
                    });
                }
            });
            // A segment, so that there is something to merge.
            replica.write(&[("a", 1, 1.0)]);
        }
    };
    everywhere(write, |snapshot, what| {
        let all = snapshot.metadata(&tenant(), None);
        let words: Vec<_> =
            all.iter().map(|(name, known)| (*name, known.help.as_str(), known.unit.as_str())).collect();
        assert_eq!(words, [("a", "New.", "bytes"), ("b", "New.", "bytes")], "{what}");
        assert_eq!(snapshot.metadata(&tenant(), Some("b")).len(), 1);
        assert!(snapshot.metadata(&TenantId::new("other").expect("valid"), None).is_empty());
    });
}

#[test]
fn exemplars_come_by_time_each_once() {
    let trace = |id: &str| set(&[("trace_id", id)]);
    let write = |replica: &mut Replica| {
        apply(replica, &tenant(), |builder| {
            for name in ["b", "a"] {
                let series = new_series(builder, &tenant(), &labels(name));
                builder.push_float(series, 5, 1.0, 0);
                for (time, id) in [(20, "y"), (10, "x"), (10, "x"), (10, "w")] {
                    builder.push_exemplar(series, time, 0.5, trace(id).as_bytes());
                }
            }
        });
    };
    everywhere(write, |snapshot, what| {
        let mut found = Vec::new();
        let visit = &mut |labels: &Labels, exemplars: &[Exemplar]| {
            let ids =
                exemplars.iter().map(|e| (e.time_ms, e.labels.get("trace_id").unwrap_or("").to_owned()));
            found.push((labels.clone(), ids.collect::<Vec<_>>()));
            ControlFlow::Continue(())
        };
        snapshot.exemplars(&tenant(), &[], 10, 19, visit).expect("readable");
        let expected = vec![(10, "w".to_owned()), (10, "x".to_owned())];
        assert_eq!(found, [(labels("a"), expected.clone()), (labels("b"), expected)], "{what}");
    });
}

#[test]
fn start_times_belong_to_their_samples() {
    let write = |replica: &mut Replica| {
        apply(replica, &tenant(), |builder| {
            let with = new_series(builder, &tenant(), &labels("with"));
            let without = new_series(builder, &tenant(), &labels("without"));
            for (time, start) in [(10, 0), (20, 3), (30, 3), (40, 35)] {
                builder.push_float(with, time, 1.0, start);
                builder.push_float(without, time, 1.0, 0);
            }
        });
    };
    everywhere(write, |snapshot, what| {
        let mut found = Vec::new();
        let visit = &mut |columns: crate::scan::SeriesColumns<'_>| {
            found.push((columns.times.to_vec(), columns.start_times.to_vec()));
            ControlFlow::Continue(())
        };
        snapshot.select(&tenant(), &[], 20, 40, visit).expect("readable");
        let times = vec![20, 30, 40];
        assert_eq!(found, [(times.clone(), vec![3, 3, 35]), (times, vec![])], "{what}");
    });
}

#[test]
fn series_of_one_segment_share_their_timestamps() {
    let mut replica = Replica::new();
    replica.write(&[("a", 1, 1.0), ("b", 1, 1.0), ("a", 2, 1.0), ("b", 2, 1.0)]);
    replica.begin_flush(false);
    replica.settle();
    let mut vectors = Vec::new();
    let visit = &mut |columns: crate::scan::SeriesColumns<'_>| {
        vectors.push(columns.shared_times.expect("one segment").vector().clone());
        ControlFlow::Continue(())
    };
    replica.store.snapshot().select(&tenant(), &[], 0, 9, visit).expect("readable");
    assert_eq!(vectors.len(), 2);
    assert!(Arc::ptr_eq(&vectors[0], &vectors[1]));
}

#[test]
fn samples_are_counted_without_reading_them_and_never_too_many() {
    let mut replica = Replica::new();
    let day = crate::manifest::PARTITION_MS;
    let samples: Vec<(&str, i64, f64)> =
        (0..50).flat_map(|i| [("a", i * 1000, i as f64), ("b", day + i * 1000, i as f64)]).collect();
    let least = |replica: &Replica, matchers: &[Matcher], range: (i64, i64), enough| {
        replica
            .store
            .snapshot()
            .least_samples(&tenant(), matchers, range.0, range.1, enough)
            .expect("readable segments")
    };
    let all = (0, 2 * day);
    let quiet = FlushPolicy { max_age_ms: i64::MAX, merge_factor: usize::MAX, ..FlushPolicy::default() };
    replica.write(&samples);
    assert_eq!(least(&replica, &[], all, 1), 0, "memtables are not counted");
    for _ in 0..2 {
        replica.begin_flush(false);
        replica.settle_with(&quiet);
        // The same again, which the next round flushes.
        replica.write(&samples);
    }
    assert!(replica.store.stats().segments > 2, "the samples lie in several segments each");
    assert_eq!(least(&replica, &[], all, 100), 100);
    assert_eq!(least(&replica, &[], all, 1000), 0, "there can not be so many");
    assert_eq!(least(&replica, &[Matcher::equal("s", "b")], all, 60), 50);
    assert_eq!(least(&replica, &[], (10_000, 19_999), 100), 10);
    assert!((20..=100).contains(&least(&replica, &[], all, 20)), "counting ends when enough are found");
    assert_eq!(replica.read().values().map(Vec::len).sum::<usize>(), 100);
    // What a delete hides is not certain to be there.
    replica.apply(CommandBody::DeleteSeries {
        tenant: tenant(),
        matchers: vec![Matcher::equal("s", "a")],
        start_ms: 0,
        end_ms: day - 1,
    });
    assert_eq!(least(&replica, &[], all, 60), 50);
}
