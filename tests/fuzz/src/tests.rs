use super::{Random, TARGETS, rounds, run};

/// Enough to meet every branch of a decoder.
const ROUNDS: usize = 1_500;

/// One test for each target, so that they run beside each other.
macro_rules! short_runs {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            let target = TARGETS.iter().find(|target| target.name == $name).expect("a target");
            if let Err(fault) = rounds(target, 0x9e37_79b9_7f4a_7c15, |round| round < ROUNDS / target.weight) {
                panic!("{}: {}: {:?}", $name, fault.why, String::from_utf8_lossy(&fault.bytes));
            }
        })*

        #[test]
        fn every_target_is_run() {
            let tested = [$($name),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, tested);
        }
    };
}

short_runs! {
    json_is_read_or_refused: "json";
    yaml_is_read_or_refused: "yaml";
    protobuf_is_read_or_refused: "protobuf";
    json_patches_apply_or_do_not: "json-patch";
    merge_patches_apply: "merge-patch";
    strategic_patches_apply_or_do_not: "strategic-patch";
    configurations_apply_or_do_not: "apply";
    field_sets_are_read: "fields";
    selectors_are_read_or_refused: "selector";
    quantities_are_read_or_refused: "quantity";
    durations_are_read_or_refused: "duration";
    rules_run_or_are_refused: "cel";
    definitions_are_accepted_or_refused: "definition";
    continue_tokens_are_read_or_refused: "continue-token";
    requests_are_understood: "request";
    certificates_are_read_or_refused: "certificate";
    client_certificates_name_somebody_or_nobody: "client-certificate";
    tokens_name_somebody_or_nobody: "token";
    claims_are_read_or_refused: "claims";
    join_tokens_are_read_or_refused: "join-token";
    spdy_sessions_end: "spdy";
    spdy_headers_are_read_or_refused: "spdy-headers";
    websockets_end: "websocket";
    packets_are_judged: "packet";
    questions_are_parsed: "dns";
}

#[test]
fn libfuzzer_knows_every_target() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml")).expect("fuzz/");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is missing", target.name);
    }
}

#[test]
fn a_fault_is_found_and_told() {
    let target = super::Target {
        name: "faulty",
        weight: 1,
        seeds: || vec![b"abc".to_vec()],
        run: |bytes| assert!(!bytes.starts_with(b"[[[["), "four brackets"),
    };
    let fault = rounds(&target, 1, |round| round < 100_000).expect_err("found");
    assert!(fault.why.contains("four brackets"), "{}", fault.why);
    assert_eq!(rounds(&target, 1, |round| round < 1).expect("the seed is good"), 1);
    run("no such target", b"");
    let mut random = Random::new(7);
    assert!((0..100).all(|_| random.below(3) < 3));
}
