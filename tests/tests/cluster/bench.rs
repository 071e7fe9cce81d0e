//! `xebec bench` measures on the host, and leaves nothing there.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xebec_tests::{required, text};

fn bench(args: &[&str]) -> Output {
    Command::new(required("XEBEC", "the release binary")).arg("bench").args(args).output().expect("start xebec")
}

/// What the run of a process has on the host now.
fn traces(pid: u32) -> Vec<String> {
    let folders = ["/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/var/tmp"];
    let names = folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("xbbench-{pid}-"))).collect()
}

#[test]
fn a_comparison_has_every_way_and_what_a_killed_run_left_is_removed() {
    let mut killed = Command::new(required("XEBEC", "the release binary"));
    let mut killed =
        killed.args(["bench", "--smoke"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start xebec");
    let deadline = Instant::now() + Duration::from_secs(30);
    while traces(killed.id()).is_empty() {
        assert!(Instant::now() < deadline, "the run makes nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().expect("kill -9");
    killed.wait().expect("it has ended");
    assert!(!traces(killed.id()).is_empty(), "nothing to remove");

    let charts = tempfile::tempdir().expect("make a directory");
    let json = charts.path().join("figures.json");
    let run = ["--smoke", "--services", "1,20", "--seed", "7", "--svg"];
    let run = [&run[..], &[path(charts.path()), "--json", path(&json)]].concat();
    let output = bench(&run);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(traces(killed.id()), Vec::<String>::new());
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("20 services") && table.contains("seed 7"), "{table}");
    for way in ["direct", "iptables-nft", "nft", "eBPF"] {
        assert!(table.contains(&format!("| {way} |")), "{way} is missing: {table}");
    }
    assert!(table.contains("| connect(), p99.9 | us |"), "{table}");
    assert!(charts.path().join("connect_p50.svg").exists());
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).expect("figures")).expect("JSON");
    let names: Vec<_> = figures["figures"].as_array().into_iter().flatten().map(|figure| &figure["name"]).collect();
    assert!(names.iter().any(|name| **name == "change_20_services"), "{names:?}");
}

#[test]
fn the_datapath_has_its_figures_as_json() {
    let output = bench(&["datapath", "--smoke", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON alone on standard output");
    let figures = report["figures"].as_array().expect("figures");
    let names: Vec<_> = figures.iter().filter_map(|figure| figure["name"].as_str()).collect();
    let paths = ["same_node", "cross_node", "cross_node_native"];
    let ratios = paths.iter().flat_map(|path| ["rr", "crr", "stream"].map(|metric| format!("{path}_{metric}_ratio")));
    let expected = ["cold_load_100_s", "cold_load_500_endpoints_s", "change_100_p99_ms", "api_to_live_p99_ms"];
    let connects = ["connect_over_direct_p50_us_1", "connect_over_direct_p50_us_100", "from_pod_to_service_ns"];
    for name in expected.into_iter().chain(connects).map(str::to_owned).chain(ratios) {
        assert!(names.contains(&name.as_str()), "{name} is missing: {names:?}");
    }
    assert!(figures.iter().all(|figure| figure["value"].is_number() && figure["unit"].is_string()), "{report}");
    assert!(report["host"]["kernel"].is_string() && report["host"]["date"].is_string(), "{report}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
