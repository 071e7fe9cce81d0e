//! The object without a node, for tests and benchmarks of programs by `BPF_PROG_TEST_RUN`.

use aya::{Ebpf, programs::SchedClassifier};

use crate::{Config, Result, object};

/// Loads every program with maps of its own, pinned nowhere and attached to nothing.
pub fn load(config: &Config) -> Result<Ebpf> {
    object::load(config, None, true)
}

pub fn classifier<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<&'a SchedClassifier> {
    object::classifier(ebpf, program)
}
