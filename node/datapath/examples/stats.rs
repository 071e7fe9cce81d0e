//! Prints the verified instructions of every program on the running kernel, as TOML, for
//! `cargo xtask bpf stats`. Needs root. Loads those that run while flows' maps are migrated too, which have no budget.

use aya::programs::Program;
use xebec_datapath::{Config, MapLayout, testing};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ebpf = testing::load_with_xdp(&testing::config())?;
    let has_xdp = testing::has_xdp()?;
    let mut counts: Vec<(String, Option<u32>)> = Vec::new();
    for (name, program) in ebpf.programs() {
        let info = match program {
            Program::SchedClassifier(program) => program.info()?,
            Program::CgroupSockAddr(program) => program.info()?,
            Program::CgroupSock(program) => program.info()?,
            Program::SockOps(program) => program.info()?,
            Program::Xdp(_) if !has_xdp => continue,
            Program::Xdp(program) => program.info()?,
            other => return Err(format!("{name}: unexpected type {other:?}").into()),
        };
        let count = info.verified_instruction_count();
        counts.push((name.to_owned(), count));
    }
    counts.sort();
    for (name, count) in counts {
        match count {
            Some(count) => println!("{name} = {count}"),
            None => println!("# {name}: a kernel before 5.16 does not count"),
        }
    }
    for map_layout in [MapLayout::Current, MapLayout::Rehearsal] {
        testing::load_migrating(&Config { map_layout, ..testing::config() })?;
    }
    Ok(())
}
