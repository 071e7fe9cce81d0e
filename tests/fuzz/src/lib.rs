//! Every decoder of what others send, against bytes that nobody meant: each answers with a value or an error, soon.
//!
//! A target is one function over bytes. The tests of this crate run each for a moment with changed forms of its seeds, the same
//! ones every time; `cargo xtask fuzz` runs them for longer, and with libFuzzer if asked to (`fuzz/`).

mod mutate;
mod target;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

pub use mutate::Random;
pub use target::{TARGETS, Target};

/// What one input may take, on a machine that does other things.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// The target of a name.
///
/// # Errors
/// What to write instead, when there is none.
pub fn target(name: &str) -> Result<&'static Target, String> {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!("unknown target {name:?}: one of {}", names.join(", "))
    })
}

/// Writes the seeds of a target into a directory, a file each.
///
/// # Errors
/// When they cannot be written.
pub fn write_seeds(target: &Target, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    (target.seeds)().iter().enumerate().try_for_each(|(n, seed)| std::fs::write(dir.join(format!("seed-{n}")), seed))
}

/// An input that a target does not survive.
#[derive(Debug)]
pub struct Fault {
    pub bytes: Vec<u8>,
    pub why: String,
}

/// Runs a target over changed forms of its seeds for as long as `goes_on` says of the number of rounds.
///
/// # Errors
/// The first input that it does not survive.
pub fn rounds(target: &Target, seed: u64, mut goes_on: impl FnMut(usize) -> bool) -> Result<usize, Fault> {
    let seeds = (target.seeds)();
    let mut random = Random::new(seed);
    let mut round = 0;
    while goes_on(round) {
        let mut bytes = seeds[round % seeds.len()].clone();
        // Seeds as they are come first.
        if round >= seeds.len() {
            for _ in 0..=random.below(4) {
                random.change(&mut bytes, &seeds);
            }
        }
        if let Err(why) = once(target, &bytes) {
            return Err(Fault { bytes, why });
        }
        round += 1;
    }
    Ok(round)
}

/// Gives one input to a target.
///
/// # Errors
/// What the target is at fault for.
pub fn once(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    let elapsed = start.elapsed();
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let why = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(why.unwrap_or_else(|| "panic".to_owned()));
    }
    if elapsed > INPUT_TIME_MAX { Err(format!("took {elapsed:?}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
