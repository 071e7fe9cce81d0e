//! The kubelet's HTTPS server: what the API server asks of a node.

mod access;
mod applied;
mod attach;
pub mod decoders;
mod dial;
mod exec;
mod portforward;
mod resource;
mod session;
mod spdy;
mod stats;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::PollSemaphore;

use crate::kubelet::Kubelet;
use crate::logs::{self, LogOptions};
use crate::observed::{Instance, Observed, State, observe};
use crate::pod::{self, PodRef};
use crate::reviews::User;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Response<Body>;

/// Connections that may be open at once; one more waits.
const CONNECTIONS_MAX: usize = 1000;
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(crate) async fn serve(kubelet: Arc<Kubelet>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let mut slots = PollSemaphore::new(slots);
    loop {
        let Some(slot) = std::future::poll_fn(|cx| slots.poll_acquire(cx)).await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, kubelet) = (acceptor.clone(), Arc::clone(&kubelet));
        tokio::spawn(async move {
            connection(kubelet, acceptor, stream).await;
            drop(slot);
        });
    }
}

async fn connection(kubelet: Arc<Kubelet>, acceptor: TlsAcceptor, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return,
    };
    let user = Arc::new(access::user_of(stream.get_ref().1.peer_certificates()));
    let service = service_fn(move |request| {
        let (kubelet, user) = (Arc::clone(&kubelet), Arc::clone(&user));
        async move { Ok::<_, Infallible>(route(&kubelet, (*user).as_ref(), request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}

fn text(status: StatusCode, message: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(message.into())).boxed_unsync());
    *answer.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    answer
}

fn json(value: &serde_json::Value) -> Answer {
    let mut answer = text(StatusCode::OK, value.to_string());
    let kind = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}

/// A request that cannot be served: status and upstream's words.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl Refused {
    fn bad_request(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, message.into())
    }
}

/// The API server hands the answer on as it is, so it is the Status that its client expects.
fn refusal(Refused(status, message): Refused) -> Answer {
    let reason = match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "",
    };
    let mut answer = json(&serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    }));
    *answer.status_mut() = status;
    answer
}

async fn route(kubelet: &Arc<Kubelet>, user: Option<&User>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().trim_matches('/').to_owned();
    if let Err(refused) = access::check(kubelet, user, &request).await {
        return refusal(refused);
    }
    let parts: Vec<&str> = path.split('/').collect();
    let query = query(request.uri());
    let answer = match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] | ["healthz", "ping" | "syncloop"] => Ok(text(StatusCode::OK, "ok")),
        ["metrics"] => Ok(stats::metrics(kubelet).await),
        ["metrics", "resource"] => Ok(resource::metrics(kubelet).await),
        ["stats", "summary"] => Ok(stats::summary(kubelet).await),
        ["pods"] => Ok(pods(kubelet)),
        ["xebec", "v1", "dial"] => dial::serve(kubelet, request, &query).await,
        ["xebec", "v1", "applied"] => applied::serve(kubelet, &query).await,
        ["containerLogs", namespace, name, container] => {
            container_logs(kubelet, namespace, name, container, &query).await
        }
        ["exec", namespace, name, rest @ .., container] if rest.len() < 2 => {
            exec::serve(kubelet, request, namespace, name, container, &query).await
        }
        ["attach", namespace, name, rest @ .., container] if rest.len() < 2 => {
            attach::serve(kubelet, request, namespace, name, container, &query).await
        }
        ["portForward", namespace, name, ..] => portforward::serve(kubelet, request, namespace, name).await,
        _ => Err(Refused::not_found("404 page not found")),
    };
    answer.unwrap_or_else(refusal)
}

fn query(uri: &http::Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

fn pods(kubelet: &Kubelet) -> Answer {
    let items: Vec<_> = kubelet.pods().iter().map(|pod| serde_json::json!(**pod)).collect();
    json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pod and what runs of it.
async fn find(
    kubelet: &Kubelet,
    namespace: &str,
    name: &str,
) -> Result<(Arc<xebec_types::core::Pod>, Observed), Refused> {
    let pod = kubelet.find_pod(namespace, name);
    let pod =
        pod.ok_or_else(|| Refused::not_found(format!("pod does not exist: pod \"{namespace}/{name}\" not found")))?;
    let observed = observe(&*kubelet.runtime, &PodRef::of(&pod).uid).await;
    let observed = observed.map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.message()))?;
    Ok((pod, observed))
}

/// The running instance of a container, for exec and attach.
fn running<'a>(observed: &'a Observed, namespace: &str, pod: &str, container: &str) -> Result<&'a Instance, Refused> {
    let newest = observed.newest(container).filter(|i| i.state == State::Running);
    newest.ok_or_else(|| {
        Refused::not_found(format!("container not found (\"{container}\") in pod \"{pod}_{namespace}\""))
    })
}

async fn container_logs(
    kubelet: &Arc<Kubelet>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &[(String, String)],
) -> Result<Answer, Refused> {
    let options = LogOptions::parse(query).map_err(|why| Refused(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    let (pod, observed) = find(kubelet, namespace, name).await?;
    if pod::any_container(&pod, container).is_none() {
        return Err(Refused::not_found(format!("container \"{container}\" not found in pod \"{name}\"")));
    }
    let instance = if options.previous {
        observed.previous(container).or_else(|| ended(&observed, container))
    } else {
        observed.newest(container)
    };
    let Some(instance) = instance.filter(|i| i.state != State::Created) else {
        return Err(Refused::bad_request(no_log(&pod, container, options.previous)));
    };
    let (sender, receiver) = mpsc::channel(32);
    let (runtime, id) = (Arc::clone(&kubelet.runtime), instance.id.clone());
    let alive: logs::Alive = Box::new(move || {
        let (runtime, id) = (Arc::clone(&runtime), id.clone());
        Box::pin(async move {
            let status = runtime.container_status(&id).await;
            status.is_ok_and(|s| s.state == xebec_cri::v1::ContainerState::ContainerRunning as i32)
        })
    });
    let path = instance.log_path.clone();
    if !path.exists() {
        return Err(Refused::not_found(format!("the log of container \"{container}\" is gone")));
    }
    tokio::spawn(async move {
        if let Err(error) = logs::stream(path, options, alive, sender).await {
            tracing::debug!(%error, "read log");
        }
    });
    let frames = tokio_stream_of(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// A container in back-off is its own previous instance.
fn ended<'a>(observed: &'a Observed, container: &str) -> Option<&'a Instance> {
    observed.newest(container).filter(|i| i.state == State::Exited)
}

fn tokio_stream_of<T>(mut receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

fn no_log(pod: &xebec_types::core::Pod, container: &str, previous: bool) -> String {
    let name = xebec_types::object::name(&pod.metadata);
    if previous {
        return format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
    }
    let statuses = pod.status.iter().flat_map(|s| {
        s.container_statuses.iter().chain(&s.init_container_statuses).chain(&s.ephemeral_container_statuses).flatten()
    });
    let state = statuses.filter(|s| s.name == container).find_map(|s| s.state.as_ref()?.waiting.clone());
    match state.and_then(|w| w.reason) {
        Some(reason) if reason.contains("Image") => {
            format!("container \"{container}\" in pod \"{name}\" is waiting to start: trying and failing to pull image")
        }
        Some(reason) => format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"),
        None => format!("container \"{container}\" in pod \"{name}\" is not available"),
    }
}

#[cfg(test)]
mod tests;
