//! One attempt of a probe or a lifecycle hook: exec, HTTP, TCP or gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use xebec_types::core::{Container, GRPCAction, HTTPGetAction, Pod, Probe};

use crate::authority::authority;
use crate::pod;
use crate::runtime::Runtime;

/// upstream's limit on what a probe's answer adds to an event.
const ANSWER_BYTES_MAX: usize = 10 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure(String),
    /// The attempt itself could not be made.
    Unknown(String),
}

/// Whom to ask.
pub(crate) struct Target {
    pub pod: Arc<Pod>,
    pub container: Arc<Container>,
    pub container_id: String,
    pub ip: String,
}

pub(crate) async fn run(runtime: &dyn Runtime, probe: &Probe, target: &Target, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        return run_exec(runtime, target, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    let attempt = async {
        if let Some(get) = &probe.http_get {
            return match http_get(get, target).await {
                Ok((status, _)) if (200..400).contains(&status) => Outcome::Success,
                Ok((status, _)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
                Err(why) => Outcome::Failure(why),
            };
        }
        if let Some(tcp) = &probe.tcp_socket {
            let Some(port) = pod::resolve_port(&target.container, &tcp.port) else {
                return Outcome::Unknown("couldn't find port".to_owned());
            };
            let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
            return match TcpStream::connect((host, port)).await {
                Ok(_) => Outcome::Success,
                Err(error) => Outcome::Failure(format!("dial tcp {}: {error}", authority(host, port))),
            };
        }
        if let Some(grpc) = &probe.grpc {
            return grpc_check(grpc, target).await;
        }
        Outcome::Unknown("missing probe handler".to_owned())
    };
    tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| Outcome::Failure(late(probe, target, timeout)))
}

fn late(probe: &Probe, target: &Target, timeout: Duration) -> String {
    match &probe.http_get {
        Some(get) => format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            url(get, target).unwrap_or_default()
        ),
        None => format!("timeout: no answer within {}s", timeout.as_secs()),
    }
}

async fn run_exec(runtime: &dyn Runtime, target: &Target, command: Vec<String>, timeout: Duration) -> Outcome {
    match runtime.exec_sync(&target.container_id, command.clone(), timeout).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(ANSWER_BYTES_MAX);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.is_not_found() || error.is_unavailable() => Outcome::Unknown(error.message()),
        Err(error) if error.message().contains("DeadlineExceeded") => Outcome::Failure(format!(
            "command timed out: \"{}\" timed out after {}s",
            command.join(" "),
            timeout.as_secs()
        )),
        Err(error) => Outcome::Failure(error.message()),
    }
}

fn scheme(get: &HTTPGetAction) -> String {
    get.scheme.as_deref().unwrap_or("HTTP").to_lowercase()
}

fn url(get: &HTTPGetAction, target: &Target) -> Option<String> {
    let port = pod::resolve_port(&target.container, &get.port)?;
    let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(format!("{}://{}{path}", scheme(get), authority(host, port)))
}

/// The status and the beginning of the body. Certificates are not verified, as upstream has it.
pub(crate) async fn http_get(get: &HTTPGetAction, target: &Target) -> Result<(u16, Vec<u8>), String> {
    let url = url(get, target).ok_or("couldn't find port")?;
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{url}\": {error}");
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| failed(&format!("dial tcp {}: {error}", authority(&host, port))))?;
    let request = request(get, &uri).map_err(|error| failed(&error))?;
    if scheme(get) == "https" {
        let stream = crate::tls::connect_unverified(stream, &host).await.map_err(|error| failed(&error))?;
        send(stream, request).await.map_err(|error| failed(&error))
    } else {
        send(stream, request).await.map_err(|error| failed(&error))
    }
}

fn request(get: &HTTPGetAction, uri: &Uri) -> Result<Request<Full<Bytes>>, http::Error> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::get(path);
    let own = |name: &str| get.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    if !own("host") {
        request = request.header("Host", uri.authority().map(|a| a.as_str()).unwrap_or_default());
    }
    if !own("user-agent") {
        request = request.header("User-Agent", "kube-probe/1.36");
    }
    if !own("accept") {
        request = request.header("Accept", "*/*");
    }
    for header in get.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    request.header("Connection", "close").body(Full::default())
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(u16, Vec<u8>), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| xebec_client::chain(&e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map(|b| b.to_bytes().to_vec()).unwrap_or_default()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// `grpc.health.v1.Health/Check`, by hand: one string field in, one enum field out.
async fn grpc_check(grpc: &GRPCAction, target: &Target) -> Outcome {
    let (host, port) = (target.ip.as_str(), u16::try_from(grpc.port).unwrap_or_default());
    let failed =
        |error: &dyn std::fmt::Display| Outcome::Failure(format!("service {}: {error}", authority(host, port)));
    let stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", authority(host, port)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(health_check_request(grpc.service.as_deref().unwrap_or_default()))));
    let (request, handshake) =
        match (request, hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await) {
            (Ok(request), Ok(handshake)) => (request, handshake),
            (Err(error), _) => return failed(&error),
            (_, Err(error)) => return failed(&error),
        };
    let (mut sender, connection) = handshake;
    let connection = tokio::spawn(connection);
    let answer = async {
        let body = sender.send_request(request).await?.into_body().collect().await?;
        Ok::<_, hyper::Error>(body.to_bytes())
    };
    let answer = answer.await;
    connection.abort();
    match answer {
        // Five bytes of frame, then field 1 as a varint: 1 is SERVING.
        Ok(body) if body.get(5..7) == Some(&[0x08, 0x01]) => Outcome::Success,
        Ok(_) => failed(&"service unhealthy (responded with a status other than \"SERVING\")"),
        Err(error) => failed(&error),
    }
}

/// A frame of gRPC (not compressed, the length in big endian) with a `HealthCheckRequest`, whose field 1 is the service.
fn health_check_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        // A varint: seven bits to a byte, the lowest first, and the eighth while more follow.
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        message.push(length.to_le_bytes()[0]);
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests;
