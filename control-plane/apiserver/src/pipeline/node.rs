//! `pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`: requests that the pod's kubelet answers.

use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::BodyStream;
use serde_json::Value;
use xebec_machinery::{Status, object};

use crate::admission::{Attributes, Operation};
use crate::app::{App, parse};
use crate::authz;
use crate::body::{Body, Incoming};
use crate::kinds::Resource;
use crate::options::Query;
use crate::proxy::{self, Kubelet};
use crate::request_info::{RequestInfo, Verb};
use crate::rest::{respond, standard_headers};
use crate::user::UserInfo;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Log,
    Exec,
    Attach,
    PortForward,
}

pub fn wanted(resource: &Resource, info: &RequestInfo) -> Option<Stream> {
    if !resource.is("", "pods") || info.name.is_empty() {
        return None;
    }
    match (info.subresource.as_str(), &info.verb) {
        ("log", Verb::Get) => Some(Stream::Log),
        ("exec", Verb::Get | Verb::Create) => Some(Stream::Exec),
        ("attach", Verb::Get | Verb::Create) => Some(Stream::Attach),
        ("portforward", Verb::Get | Verb::Create) => Some(Stream::PortForward),
        _ => None,
    }
}

pub async fn serve(
    app: &App,
    stream: Stream,
    info: &RequestInfo,
    user: UserInfo,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let pods = app.kinds.find("", "pods").ok_or_else(Status::not_found_path)?;
    if stream != Stream::Log {
        // A WebSocket begins with a GET, but running something in a pod takes more than reading it.
        app.authz.check(&user, &authz::Attributes { verb: "create".into(), ..authz::Attributes::of(info) })?;
    }
    let found = app.find_consistent(pods, &info.namespace, &info.name).await?;
    let pod = parse(&*found.ok_or_else(|| pods.not_found(&info.name))?)?;
    let query = Query::parse(request.uri().query().unwrap_or(""));
    if stream != Stream::Log {
        admit(app, info, &user).await?;
    }
    let container = match stream {
        Stream::PortForward => String::new(),
        _ => container(&pod, query.text("container"))?,
    };
    if stream == Stream::Log && object::str_at(&pod, &["spec", "nodeName"]).is_empty() {
        // A pod without a node has logged nothing: upstream answers without content.
        return Ok(respond(StatusCode::NO_CONTENT, "text/plain", Body::empty()));
    }
    let kubelet = kubelet(app, &pod).await?;
    let path = path(stream, info, &container, request.uri().query().unwrap_or(""));
    let dialer =
        app.kubelets.read().clone().ok_or_else(|| Status::service_unavailable("no client certificate for kubelets"))?;
    let answer = dialer.forward(kubelet, &path, request).await?;
    let mut response = answered(app, answer);
    if stream == Stream::Log && response.status().is_success() {
        standard_headers(response.headers_mut(), "text/plain");
    }
    Ok(response)
}

/// What a kubelet or something behind it answered, streamed until the server stops.
pub fn answered(app: &App, answer: Response<hyper::body::Incoming>) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let stop = app.stop.clone();
    let bytes = BodyStream::new(body)
        .filter_map(|frame| async move {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(e) => Some(Err(e.into())),
            }
        })
        .take_until(async move { stop.cancelled().await });
    let mut response = Response::from_parts(parts, Body::stream(bytes));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    response.headers_mut().remove(http::header::TRANSFER_ENCODING);
    response
}

async fn admit(app: &App, info: &RequestInfo, user: &UserInfo) -> Result<(), Status> {
    let pods = app.kinds.find("", "pods").ok_or_else(Status::not_found_path)?;
    let mut attributes = Attributes {
        operation: Operation::Connect,
        resource: &pods.gvr,
        kind: &pods.gvk,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        user,
        dry_run: false,
        now: app.now(),
        object: Value::Null,
        old_object: None,
        warnings: Vec::new(),
    };
    app.admission.admit(&mut attributes, app).await?;
    app.admission.validate(&attributes, app).await
}

/// The container that is meant: the only one, the one of `kubectl.kubernetes.io/default-container`, or as asked.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|c| c.get("name")?.as_str().map(str::to_owned)).collect()
    };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod_name = object::name(pod);
    if asked.is_empty() {
        if let [only] = containers.as_slice() {
            return Ok(only.clone());
        }
        let default = object::annotation(pod, "kubectl.kubernetes.io/default-container");
        if let Some(default) = default.filter(|d| containers.iter().any(|c| c == d)) {
            return Ok(default.to_owned());
        }
        let mut message =
            format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", containers.join(" "));
        if !init.is_empty() {
            message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        return Err(Status::bad_request(message));
    }
    if containers.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
        return Ok(asked.to_owned());
    }
    Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")))
}

/// Where the pod's kubelet listens, from the Node's status.
async fn kubelet(app: &App, pod: &Value) -> Result<Kubelet, Status> {
    let name = object::str_at(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", object::name(pod))));
    }
    let nodes = app.kinds.find("", "nodes").ok_or_else(Status::not_found_path)?;
    let node = app.find(nodes, "", name).await?.ok_or_else(|| nodes.not_found(name))?;
    proxy::kubelet_of(&parse(&node)?)
}

/// The kubelet's own paths (`pkg/kubelet/server`), with the query that kubectl sent.
fn path(stream: Stream, info: &RequestInfo, container: &str, query: &str) -> String {
    let kind = match stream {
        Stream::Log => "containerLogs",
        Stream::Exec => "exec",
        Stream::Attach => "attach",
        Stream::PortForward => "portForward",
    };
    let mut path = format!("/{kind}/{}/{}", info.namespace, info.name);
    if stream != Stream::PortForward {
        path.push('/');
        path.push_str(container);
    }
    let kept: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key != "container")
        // The kubelet's parameters have other names (`pkg/registry/core/pod.streamParams`).
        .map(|(key, value)| {
            let streams = stream != Stream::Log;
            let key = match &*key {
                "stdin" if streams => "input".to_owned(),
                "stdout" if streams => "output".to_owned(),
                "stderr" if streams => "error".to_owned(),
                key => key.to_owned(),
            };
            let value = match key.as_str() {
                "input" | "output" | "error" | "tty" if streams => {
                    if value == "true" {
                        "1".to_owned()
                    } else {
                        "0".to_owned()
                    }
                }
                _ => value.into_owned(),
            };
            (key, value)
        })
        .filter(|(key, value)| !(matches!(key.as_str(), "input" | "output" | "error" | "tty") && value == "0"))
        .collect();
    if !kept.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
        path.push('?');
        path.push_str(&query);
    }
    path
}
