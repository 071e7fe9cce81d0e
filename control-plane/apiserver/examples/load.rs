//! Measures a server in this process over loopback TLS: `cargo run --release -p xebec-apiserver --example load [-- OBJECTS CONNECTIONS]`.
//! Prints creates per second with percentiles, the time of a list, and resident memory.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use xebec_apiserver::{Config, Pki, Server};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATH: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (objects, connections) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(8));
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &[])?);
    let store = xebec_store::embedded::open(dir.path().join("store")).await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = Server::start(Config::new(pki.clone(), vec![listener]), Arc::new(store)).await?;
    server.ready().await;
    println!("ready after {:?}, {} MB resident", started.elapsed(), resident_mb());
    let before = resident_mb();
    let blob = "x".repeat(900);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..connections {
        let (mut sender, blob) = (connect(&pki, &server).await?, blob.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            for i in (worker..objects).step_by(connections) {
                let body = format!(r#"{{"metadata":{{"name":"c{i}"}},"data":{{"blob":"{blob}"}}}}"#);
                let sent = Instant::now();
                let code = call(&mut sender, "POST", PATH, body).await?.0;
                times.push(sent.elapsed());
                if code != 201 {
                    return Err(Failure::from(format!("create answered {code}")));
                }
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let rate = objects as f64 / start.elapsed().as_secs_f64();
    times.sort();
    let at = |q: usize| times.get(times.len() * q / 100).copied().unwrap_or_default();
    println!("{rate:.0} creates/s over {connections} connections, p50 {:?}, p99 {:?}", at(50), at(99));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = resident_mb();
    println!("{after} MB resident, {:.2} KB per object", (after - before) * 1024.0 / objects as f64);
    let mut sender = connect(&pki, &server).await?;
    for version in ["", "?resourceVersion=0"] {
        let mut best = Duration::MAX;
        let mut bytes = 0;
        for _ in 0..5 {
            let sent = Instant::now();
            bytes = call(&mut sender, "GET", &format!("{PATH}{version}"), String::new()).await?.1.len();
            best = best.min(sent.elapsed());
        }
        println!("list{version} of {objects}: {best:?} (best of 5), {bytes} bytes");
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut sender = connect(&pki, &server).await?;
        tasks.spawn(async move { call(&mut sender, "GET", PATH, String::new()).await.map(|(_, b)| b.len()) });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("after ten parallel lists (client and server in one process): {} MB resident", resident_mb());
    server.shutdown().await;
    Ok(())
}

async fn connect(pki: &Pki, server: &Server) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone())?;
    let key = pki.issue_client("load", &["system:masters"])?.certified_key("load")?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::new(key))));
    let address = server.addresses().first().ok_or("no address")?;
    let tcp = tokio::net::TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: String,
) -> Result<(u16, Bytes), Failure> {
    let request =
        Request::builder().method(method).uri(path).header("host", "localhost").body(Full::new(body.into()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let code = response.status().as_u16();
    let mut length = Vec::new();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length.extend_from_slice(&data);
        }
    }
    Ok((code, length.into()))
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}
