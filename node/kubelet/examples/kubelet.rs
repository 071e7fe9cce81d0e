//! A kubelet by hand, over a containerd and an API server that run already:
//! `cargo run -p xebec-kubelet --example kubelet -- --kubeconfig K --containerd SOCKET --root-dir D --ca CA --cert C --key K [--node N] [--import TAR]…`.
//!
//! The node's pods have the network that containerd's own CNI configuration gives them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_client::identity::Identity;
use xebec_client::{Informers, connection};
use xebec_clock::Clock;
use xebec_kubelet::{Config, Tls, run};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let required = |name: &str| option(name).ok_or_else(|| format!("{name} is required"));
    let socket = PathBuf::from(required("--containerd")?);
    for (i, name) in arguments.iter().enumerate() {
        if name == "--import" {
            let source = xebec_cri::import::source(Path::new(&arguments[i + 1]));
            println!("{:?}", xebec_cri::import::import(xebec_cri::connect(socket.clone()), source, None).await?);
        }
    }
    let pem = std::fs::read_to_string(required("--cert")?)? + &std::fs::read_to_string(required("--key")?)?;
    let identity = Identity::from_pem(&pem)?;
    let tls = Tls {
        cert_resolver: Arc::new(identity),
        client_ca_pem: std::fs::read(required("--ca")?)?,
        clock: Clock::default(),
    };
    let (_network, network_ready) = watch::channel(true);
    let node = option("--node").unwrap_or_else(|| "by-hand".to_owned());
    let config = Config {
        container_runtime_endpoint: socket,
        port: 0,
        ..Config::new(&node, vec![IpAddr::from([127, 0, 0, 1])], required("--root-dir")?.into(), tls, network_ready)
    };
    let client = connection::from_kubeconfig(Path::new(&required("--kubeconfig")?)).await?;
    let informers = Informers::new(client.clone());
    run(config, client, informers, CancellationToken::new()).await?;
    Ok(())
}
