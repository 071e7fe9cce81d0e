use super::{Random, TARGETS, once, rounds, target, write_seeds};

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
    objects_are_accepted_or_refused: "object";
    objects_are_patched_or_not: "object-patch";
    selectors_are_read_or_refused: "selector";
    quantities_are_read_or_refused: "quantity";
    durations_are_read_or_refused: "duration";
    rules_run_or_are_refused: "cel";
    definitions_are_accepted_or_refused: "definition";
    columns_are_printed_or_not: "column";
    devices_are_meant_or_not: "device";
    continue_tokens_are_read_or_refused: "continue-token";
    requests_are_understood: "request";
    settings_are_read_or_refused: "setting";
    resource_metrics_are_read: "resource-metrics";
    store_logs_are_read: "store-log";
    objects_get_their_version: "resource-version";
    certificates_are_read_or_refused: "certificate";
    client_certificates_name_somebody_or_nobody: "client-certificate";
    tokens_name_somebody_or_nobody: "token";
    claims_are_read_or_refused: "claims";
    join_tokens_are_read_or_refused: "join-token";
    spdy_sessions_end: "spdy";
    spdy_headers_are_read_or_refused: "spdy-headers";
    websockets_end: "websocket";
    cni_requests_are_read_or_refused: "cni";
    container_logs_are_read: "container-log";
    image_archives_are_read_or_refused: "image-archive";
    pull_secrets_are_read: "pull-secret";
    variables_are_expanded: "variable";
    packets_are_judged: "packet";
    questions_are_parsed: "dns";
    upstreams_answers_are_passed_on_or_not: "dns-answer";
}

#[test]
fn seeds_are_written_and_good() {
    let dir = tempfile::tempdir().expect("a directory");
    for target in TARGETS {
        let dir = dir.path().join(target.name);
        write_seeds(target, &dir).expect("written");
        let files = std::fs::read_dir(&dir).expect("a directory").map(|file| file.expect("a file").path());
        let written: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("a seed")).collect();
        assert_eq!(written.len(), (target.seeds)().len(), "{}", target.name);
        for seed in written {
            once(target, &seed).unwrap_or_else(|why| panic!("{}: {why}: {}", target.name, seed.escape_ascii()));
        }
    }
}

#[test]
fn an_unknown_target_is_told_with_those_that_there_are() {
    let error = target("jsn").err().expect("an error");
    assert!(error.starts_with("unknown target \"jsn\": one of json, yaml, "), "{error}");
    assert_eq!(target("dns").expect("a target").name, "dns");
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
    let mut random = Random::new(7);
    assert!((0..100).all(|_| random.below(3) < 3));
}
