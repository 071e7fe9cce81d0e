//! libFuzzer over the targets. All that it keeps is below `target/fuzz`: inputs that reached more than others (`corpus`), those at fault (`faults`), and what
//! it printed (`log`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// The compiler tells libFuzzer which edges an input takes and what it compares (LLVM's SanitizerCoverage). The options are stable; sanitizers are not.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// What one input may take, as in `tests/fuzz`.
const INPUT_SECONDS_MAX: u32 = 5;
/// What a process may come to hold while it decodes small inputs.
const MEMORY_MIB_MAX: u32 = 2048;
/// How much of the log is shown of a fault.
const TOLD_LINES_MAX: usize = 15;

/// # Errors
/// When a target is at fault or unknown, or cannot be built.
pub fn run(target: Option<&str>, seconds: u64, input: Option<&Path>) -> Result<()> {
    let dir = sh::target_dir().join("fuzz");
    let decoder = build(&dir)?;
    let all = sh::read(&mut sh::command(&decoder))?;
    let targets: Vec<&str> = all.lines().filter(|name| target.is_none_or(|target| target == *name)).collect();
    if let (Some(target), []) = (target, &*targets) {
        bail!("unknown target {target:?}: one of {}", all.lines().collect::<Vec<_>>().join(", "));
    }
    if let (Some(input), [target]) = (input, &*targets) {
        return sh::run(command(&decoder, target).arg(input));
    }
    let mut at_fault = Vec::new();
    for target in targets {
        if !survives(&dir, &decoder, target, seconds)? {
            at_fault.push(target);
        }
    }
    if at_fault.is_empty() { Ok(()) } else { bail!("at fault: {}", at_fault.join(", ")) }
}

/// Builds `fuzz/` with the versions that the workspace has, and answers its program.
fn build(dir: &Path) -> Result<PathBuf> {
    let (ours, theirs) = (sh::root().join("Cargo.lock"), sh::root().join("fuzz/Cargo.lock"));
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    // Cargo adds to the copy what only `fuzz/` needs: it is made again when it is old, not each time.
    if modified(&theirs) < modified(&ours) {
        fs::copy(&ours, &theirs).with_context(|| format!("copy {} to {}", ours.display(), theirs.display()))?;
    }
    let version = sh::read(sh::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV tells its host")?;
    // Where a target is named, build scripts and macros are compiled without the flags.
    sh::run(
        sh::cargo()
            .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", host, "--target-dir"])
            .arg(dir)
            .env("RUSTFLAGS", COVERAGE.join(" "))
            .env("XEBEC_BPF", "skip"),
    )?;
    Ok(dir.join(host).join("release/decoder"))
}

fn command(decoder: &Path, target: &str) -> Command {
    let mut command = sh::command(decoder);
    command.env("XEBEC_FUZZ_TARGET", target).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command
}

/// Runs a target for its time, and prints how that went.
fn survives(dir: &Path, decoder: &Path, target: &str, seconds: u64) -> Result<bool> {
    let made = |name: &str| {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display())).map(|()| dir)
    };
    let (corpus, faults) = (made(&format!("corpus/{target}"))?, made(&format!("faults/{target}"))?);
    let (seeds, log) = (made(&format!("seeds/{target}"))?, made("log")?.join(target));
    let before = files(&faults)?;
    let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let status = command(decoder, target)
        // What is found goes into the first directory.
        .args([&corpus, &seeds])
        .env("XEBEC_FUZZ_SEEDS", &seeds)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", faults.display()))
        .arg("-print_final_stats=1")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("start {}", decoder.display()))?;
    let text =
        String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("read {}", log.display()))?).into_owned();
    if status.success() {
        println!("{target}: {}", summary(&text).with_context(|| format!("{} has no figures", log.display()))?);
        return Ok(true);
    }
    println!("{target}: ended with {status}; the end of {}:", log.display());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TOLD_LINES_MAX)..].iter().for_each(|line| println!("    {line}"));
    for found in files(&faults)?.difference(&before) {
        let path = faults.join(found);
        println!("  again: cargo xtask fuzz {target} --libfuzzer --input {}", path.display());
    }
    Ok(false)
}

fn files(dir: &Path) -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// From what libFuzzer prints: how many inputs ran, and how many edges were reached by what it began with and at the end.
fn summary(log: &str) -> Option<String> {
    let edges = |event: &str| {
        let line = log.lines().find(|line| line.split_whitespace().nth(1) == Some(event))?;
        line.split_once("cov: ")?.1.split(' ').next()
    };
    let figure = |name: &str| log.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")).map(str::trim));
    let (inputs, speed) = (figure("number_of_executed_units")?, figure("average_exec_per_sec")?);
    let (new, memory) = (figure("new_units_added")?, figure("peak_rss_mb")?);
    let (first, last) = (edges("INITED")?, edges("DONE")?);
    Some(format!("{inputs} inputs, {speed} a second; {first} edges, then {last}; {new} new inputs; {memory} MiB"))
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn figures_are_found_in_the_log() {
        let log = "INFO: Loaded 1 modules   (9 inline 8-bit counters): 9 [0x1, 0x2),\n\
                   #7\tINITED cov: 120 ft: 130 corp: 5/80b exec/s: 0 rss: 50Mb\n\
                   #9\tNEW    cov: 125 ft: 140 corp: 6/90b lim: 4 exec/s: 0 rss: 50Mb L: 10/10 MS: 1 ChangeBit-\n\
                   #300\tDONE   cov: 150 ft: 190 corp: 9/99b lim: 8 exec/s: 100 rss: 60Mb\n\
                   Done 300 runs in 3 second(s)\nstat::number_of_executed_units: 300\nstat::average_exec_per_sec:     100\n\
                   stat::new_units_added:          4\nstat::slowest_unit_time_sec:    0\nstat::peak_rss_mb:              60\n";
        let told = "300 inputs, 100 a second; 120 edges, then 150; 4 new inputs; 60 MiB";
        assert_eq!(summary(log).as_deref(), Some(told));
        assert_eq!(summary("XEBEC_FUZZ_TARGET"), None);
    }
}
