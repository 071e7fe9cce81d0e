//! Refuses an object that links but cannot be loaded, with a reason a person can act on.

use std::fmt;

use object::{Object, ObjectSection, ObjectSymbol};

use crate::stack::{self, Chain};

/// `BPF_OBJ_NAME_LEN` is 16 with its NUL (include/uapi/linux/bpf.h).
const NAME_MAX_BYTES: usize = 15;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    NotElf(String),
    /// A program that can panic fails at load with "last insn is not an exit or jmp", without a
    /// line or a name; the symbol says what can panic.
    Panic(String),
    /// Kernels before 6.16 refuse `__bpf_trap`.
    Trap,
    MapName(String),
    Stack(Chain),
    NoPrograms,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf(reason) => write!(f, "not an ELF object ({reason})"),
            Self::Panic(symbol) => write!(f, "a program can panic: it refers to `{symbol}`"),
            Self::Trap => f.write_str("it refers to `__bpf_trap`; link with --llvm-args=-bpf-disable-trap-unreachable"),
            Self::MapName(name) => {
                write!(f, "map name `{name}` is longer than {NAME_MAX_BYTES} bytes")
            }
            Self::Stack(Chain { names, bytes }) => {
                let (most, names) = (stack::MAX_BYTES, names.join(" > "));
                write!(
                    f,
                    "verifiers that round frames up to 32 bytes allow {most} bytes of stack, not {bytes}: {names}"
                )
            }
            Self::NoPrograms => f.write_str("it holds no program"),
        }
    }
}

/// Everything wrong with an object; empty if it can be loaded as far as one can tell.
pub fn object(bytes: &[u8]) -> Vec<Problem> {
    let file = match object::File::parse(bytes) {
        Ok(file) => file,
        Err(error) => return vec![Problem::NotElf(error.to_string())],
    };
    let maps = file.sections().find(|section| section.name() == Ok(".maps")).map(|s| s.index());
    let mut problems = Vec::new();
    for symbol in file.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if name.contains("core9panicking") || name.contains("core::panicking") {
            problems.push(Problem::Panic(name.to_owned()));
        } else if name == "__bpf_trap" {
            problems.push(Problem::Trap);
        } else if maps.is_some() && symbol.section_index() == maps && symbol.is_global() && name.len() > NAME_MAX_BYTES
        {
            problems.push(Problem::MapName(name.to_owned()));
        }
    }
    let deep = stack::deepest(&file).into_iter().filter(|chain| chain.bytes > stack::MAX_BYTES);
    problems.extend(deep.map(Problem::Stack));
    if programs(bytes).is_empty() {
        problems.push(Problem::NoPrograms);
    }
    problems.sort_by_key(ToString::to_string);
    problems.dedup();
    problems
}

/// The programs of an object with their sections and sizes in instructions.
pub fn programs(bytes: &[u8]) -> Vec<(String, String, u64)> {
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    file.symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .filter_map(|symbol| {
            let section = file.section_by_index(symbol.section_index()?).ok()?;
            let section = section.name().ok()?;
            let attached =
                ["classifier", "cgroup/", "xdp", "sockops", "tc"].iter().any(|prefix| section.starts_with(prefix));
            let name = symbol.name().ok()?.to_owned();
            attached.then(|| (name, section.to_owned(), symbol.size() / 8))
        })
        .collect()
}

#[cfg(test)]
mod tests;
