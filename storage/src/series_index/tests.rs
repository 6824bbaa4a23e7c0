use super::*;
use proptest::prelude::*;
use protocol::ids::ClusterSecret;
use protocol::matcher::{MatchOp, Matcher};

const SECRET: ClusterSecret = ClusterSecret([1; 32]);

fn tenants() -> [TenantId; 2] {
    ["a", "b"].map(|name| TenantId::new(name).expect("valid name"))
}

fn register(registry: &mut Registry, tenant: &TenantId, labels: &Labels) -> Ordinal {
    registry.register(tenant, labels.series_id(&SECRET, tenant), labels.as_bytes())
}

fn label_sets() -> impl Strategy<Value = Vec<(usize, Labels)>> {
    let pairs = proptest::collection::btree_map("(__name__|a|b)", "[x-z\0]{1,2}", 0..4);
    let labels = pairs.prop_map(|pairs| Labels::from_pairs(pairs).expect("valid labels"));
    proptest::collection::vec((0usize..2, labels), 0..60)
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    let value = prop::sample::select(vec!["", "x", "yz", "x|y|zz", "|x", "x.*", ".*", ".+", "[xy]?"]);
    let one = ("(__name__|a|b|c)", op, value);
    let one = one.prop_map(|(name, op, value)| Matcher::new(name, op, value).expect("valid pattern"));
    proptest::collection::vec(one, 0..4)
}

proptest! {
    #[test]
    fn finds_what_a_scan_of_all_series_finds(sets in label_sets(), matchers in matchers(), cut in 0usize..60) {
        let (mut registry, names) = (Registry::new(1), tenants());
        let mut early = registry.view();
        for (i, (tenant, labels)) in sets.iter().enumerate() {
            if i == cut {
                early = registry.view();
                // The index grows in two steps.
                early.live().in_segment_order(&early);
            }
            register(&mut registry, &names[*tenant], labels);
        }
        for view in [registry.view(), early] {
            for tenant in &names {
                let Some(number) = view.tenant_number(tenant) else { continue };
                let found = view.live().matching(&view, number, &matchers);
                let mut expected: Vec<u32> = (0..view.len() as u32)
                    .filter(|&o| view.entry(o).unwrap().tenant() == number)
                    .filter(|&o| matchers.iter().all(|m| m.matches(view.labels(o).get(m.name()).unwrap_or(""))))
                    .collect();
                expected.sort_by_key(|&ordinal| view.labels(ordinal));
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_file_brings_the_same_registry(sets in label_sets(), cut in 0usize..60) {
        let (mut registry, names) = (Registry::new(7), tenants());
        let mut first = None;
        for (i, (tenant, labels)) in sets.iter().enumerate() {
            if i == cut {
                first = Some(registry.view());
            }
            register(&mut registry, &names[*tenant], labels);
        }
        let view = registry.view();
        let files = match &first {
            Some(first) => vec![encode_registry_file(first, 0), encode_registry_file(&view, first.len())],
            None => vec![encode_registry_file(&view, 0)],
        };
        let mut back = Registry::new(7);
        for file in &files {
            prop_assert_eq!(decode_registry_file(file, &mut back), Ok(()));
        }
        prop_assert_eq!(back.len(), registry.len());
        for (tenant, labels) in &sets {
            let (tenant, bytes) = (&names[*tenant], labels.as_bytes());
            prop_assert_eq!(back.ordinal(tenant, bytes), registry.ordinal(tenant, bytes));
        }
        prop_assert_eq!(encode_registry_file(&back.view(), 0), encode_registry_file(&view, 0));
    }

    #[test]
    fn a_damaged_file_is_refused(at: prop::sample::Index, bit in 0u8..8) {
        let (mut registry, names) = (Registry::new(1), tenants());
        for value in ["x", "y", "z"] {
            register(&mut registry, &names[0], &Labels::from_pairs([("a", value)]).unwrap());
        }
        let mut bytes = encode_registry_file(&registry.view(), 0);
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(decode_registry_file(&bytes, &mut Registry::new(1)).is_err());
        prop_assert!(decode_registry_file(&bytes[..position], &mut Registry::new(1)).is_err());
    }
}

#[test]
fn registering_twice_gives_the_same_ordinal() {
    let (mut registry, names) = (Registry::new(1), tenants());
    let labels = Labels::from_pairs([("a", "x")]).expect("valid labels");
    assert_eq!(register(&mut registry, &names[0], &labels), Ordinal(0));
    assert_eq!(register(&mut registry, &names[1], &labels), Ordinal(1));
    assert_eq!(register(&mut registry, &names[0], &labels), Ordinal(0));
    assert_eq!(registry.len(), 2);
}

#[test]
fn a_later_releases_file_is_no_damage() {
    let mut bytes = encode_registry_file(&Registry::new(1).view(), 0);
    bytes[7] += 1;
    let error = decode_registry_file(&bytes, &mut Registry::new(1)).expect_err("not known here");
    assert!(!error.of_file("f").is_damage());
}

#[test]
fn a_file_takes_few_bytes_a_series() {
    let (mut registry, names) = (Registry::new(1), tenants());
    for host in 0..200 {
        let instance = format!("host-{:05}.example:9100", host * 7919 % 99_991);
        for (cpu, mode) in (0..50).map(|i| (i / 5, ["idle", "iowait", "system", "user", "steal"][i % 5])) {
            let cpu = cpu.to_string();
            let pairs = [
                ("__name__", "node_cpu_seconds_total"),
                ("cpu", &cpu),
                ("instance", &instance),
                ("mode", mode),
            ];
            register(&mut registry, &names[0], &Labels::from_pairs(pairs).expect("valid labels"));
        }
    }
    let bytes = encode_registry_file(&registry.view(), 0).len();
    assert!(bytes < 2 * registry.len(), "{bytes} bytes for {} series", registry.len());
}
