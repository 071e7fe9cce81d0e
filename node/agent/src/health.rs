//! Answers load balancers that ask whether this node has endpoints of a Service (`healthCheckNodePort`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xebec_services::HealthCheck;

/// For a request to arrive whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// Load balancers ask one after the other; more connections than this wait.
const CONNECTIONS_MAX: usize = 64;
/// kube-proxy's, for load balancers that weigh nodes.
const WEIGHT: &str = "X-Load-Balancing-Endpoint-Weight";

/// The servers, one for each port.
#[derive(Default)]
pub struct HealthServers(BTreeMap<u16, Running>);

struct Running {
    check: watch::Sender<HealthCheck>,
    /// Each ends with its entry.
    listeners: BTreeMap<IpAddr, JoinSet<()>>,
}

impl HealthServers {
    /// Starts, updates and stops servers, which answer at `addresses`. One that is taken, with its port, is tried again
    /// at the next change.
    pub async fn set(&mut self, checks: Vec<HealthCheck>, addresses: &[IpAddr]) {
        let wanted: BTreeMap<u16, HealthCheck> = checks.into_iter().map(|check| (check.port, check)).collect();
        self.0.retain(|port, _| wanted.contains_key(port));
        for (port, check) in wanted {
            let service = check.service.to_string();
            let running = self.0.entry(port).or_insert_with(|| Running::new(check.clone()));
            running.check.send_replace(check);
            running.listeners.retain(|address, _| addresses.contains(address));
            for address in addresses {
                if let Err(error) = running.listen(*address, port).await {
                    tracing::warn!(%error, service, %address, port, "health checks of the Service are not answered");
                }
            }
        }
    }
}

impl Running {
    fn new(check: HealthCheck) -> Self {
        Self { check: watch::channel(check).0, listeners: BTreeMap::new() }
    }

    async fn listen(&mut self, address: IpAddr, port: u16) -> io::Result<()> {
        if let Entry::Vacant(vacant) = self.listeners.entry(address) {
            let listener = TcpListener::bind((address, port)).await?;
            vacant.insert(JoinSet::new()).spawn(serve(listener, self.check.subscribe()));
        }
        Ok(())
    }
}

async fn serve(listener: TcpListener, check: watch::Receiver<HealthCheck>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(answer(stream, check.clone()))),
            // Out of descriptors: others may close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, check: watch::Receiver<HealthCheck>) {
    let respond = service_fn(move |_| {
        let response = response(&check.borrow());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that breaks off gets no answer; nobody else cares.
    let _ = http.serve_connection(TokioIo::new(stream), respond).await;
}

fn response(check: &HealthCheck) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(check.body()));
    if !check.is_healthy() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(check.local_endpoints));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use xebec_services::ServiceKey;

    use super::*;

    async fn ask(port: u16) -> Option<String> {
        ask_at(Ipv4Addr::LOCALHOST, port).await
    }

    async fn ask_at(address: Ipv4Addr, port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((address, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    #[tokio::test]
    async fn load_balancers_are_answered_as_kube_proxy_does() {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.and_then(|l| l.local_addr()).expect("a port").port();
        let mut servers = HealthServers::default();
        let (own, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
        let check = |local_endpoints| HealthCheck { service: ServiceKey::new("demo", "web"), port, local_endpoints };
        for (count, status) in [(2, "200 OK"), (0, "503 Service Unavailable")] {
            servers.set(vec![check(count)], &[own.into()]).await;
            let answer = ask(port).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(answer.contains(&format!("x-load-balancing-endpoint-weight: {count}\r\n")), "{answer}");
            assert!(answer.ends_with(&check(count).body()), "{answer}");
        }
        // An address comes, and goes again; connections to the other one stay.
        servers.set(vec![check(1)], &[own.into(), other.into()]).await;
        assert!(ask_at(other, port).await.is_some_and(|answer| answer.ends_with(&check(1).body())));
        servers.set(vec![check(1)], &[own.into()]).await;
        while ask_at(other, port).await.is_some() {
            tokio::task::yield_now().await;
        }
        assert!(ask(port).await.is_some());
        servers.set(Vec::new(), &[own.into()]).await;
        while ask(port).await.is_some() {
            tokio::task::yield_now().await;
        }
    }
}
