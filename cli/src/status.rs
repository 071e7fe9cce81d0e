//! `xebec status`: what runs, and whether it works.

use anyhow::{Result, bail};
use kube::Api;
use kube::api::ListParams;
use xebec_types::core::Node;

use crate::cluster::layout::Layout;
use crate::cluster::spec::{Spec, word};
use crate::cluster::{supervise, up};
use xebec_agent::process::Process;

/// Prints a line per program and per node.
///
/// # Errors
/// When there is no cluster, or any part of it does not work.
pub async fn run(layout: &Layout) -> Result<()> {
    let Some(spec) = Spec::load(layout)? else {
        bail!("no cluster in {}: `xebec up` makes one", layout.dir().display());
    };
    println!(
        "cluster {} in {}: {} nodes, store {}, routing {}",
        layout.id(),
        layout.dir().display(),
        spec.nodes,
        word(spec.store),
        word(spec.routing)
    );
    let mut faults = Vec::new();
    let mut line = |what: &str, state: Result<String, String>| {
        println!("{what:20} {}", state.as_ref().unwrap_or_else(|reason| reason));
        if state.is_err() {
            faults.push(what.to_owned());
        }
    };
    let running = |found: bool| if found { Ok("running".to_owned()) } else { Err("not running".to_owned()) };
    line("supervisor", running(supervise::is_running(layout)));
    for unit in unit_names(&spec) {
        line(&unit, running(Process::load(&layout.run().join(format!("{unit}.pid"))).is_some()));
    }
    match nodes(layout).await {
        Ok(nodes) => {
            for node in nodes {
                let name = node.metadata.name.clone().unwrap_or_default();
                let state = if up::is_ready(&node) { Ok("Ready".to_owned()) } else { Err("NotReady".to_owned()) };
                line(&format!("node {name}"), state);
            }
        }
        Err(reason) => line("API server", Err(reason)),
    }
    if !faults.is_empty() {
        bail!("not working: {}; the logs are in {}", faults.join(", "), layout.logs().display());
    }
    Ok(())
}

fn unit_names(spec: &Spec) -> Vec<String> {
    let mut names = vec!["server".to_owned()];
    if spec.store == crate::cluster::spec::StoreKind::Etcd {
        names.insert(0, "etcd".to_owned());
    }
    for node in spec.nodes() {
        names.extend([format!("{}.containerd", node.name()), format!("{}.agent", node.name())]);
    }
    names
}

async fn nodes(layout: &Layout) -> Result<Vec<Node>, String> {
    let client = up::connect(layout).await?;
    let nodes = Api::<Node>::all(client).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    Ok(nodes.items)
}
