//! A bare API server over an embedded store: `cargo run -p xebec-apiserver --example serve -- --dir D [--port N] [--etcd-servers URL]`.
//! Writes `D/kubeconfig`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use xebec_apiserver::{Config, Pki, Server};
use xebec_store::Store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let dir = PathBuf::from(option("--dir").ok_or("--dir is required")?);
    let port = option("--port").unwrap_or_else(|| "0".into());
    let started = std::time::Instant::now();
    let pki = Arc::new(Pki::load_or_create(dir.join("pki"), &[])?);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let url = format!("https://{}", listener.local_addr()?);
    std::fs::write(dir.join("kubeconfig"), pki.admin_kubeconfig(&url)?)?;
    let store: Arc<dyn Store> = match option("--etcd-servers") {
        Some(url) => Arc::new(xebec_store::etcd::connect(&[url], None).await?),
        None => Arc::new(xebec_store::embedded::open(dir.join("store")).await?),
    };
    let mut config = Config::new(pki, vec![listener]);
    config.bootstrap_token = Some("abcdef.0123456789abcdef".into());
    config.token_auth_file = option("--token-auth-file").map(PathBuf::from);
    let server = Server::start(config, store).await?;
    server.ready().await;
    println!("{url} ready after {:?}; kubeconfig {}", started.elapsed(), dir.join("kubeconfig").display());
    std::future::pending::<()>().await;
    drop(server);
    Ok(())
}
