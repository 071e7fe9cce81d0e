//! `nodes/proxy`, `pods/proxy`, `services/proxy`: HTTP to what runs in the cluster, on the way that the API server has to it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use rand::seq::IndexedRandom;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_store::cache::{At, Filter, Query};

use super::node::answered;
use crate::app::{App, parse, store_error};
use crate::body::{Body, Incoming};
use crate::kinds::Resource;
use crate::proxy::{self, Kubelet, Target};
use crate::request_info::RequestInfo;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Whether the request is for something behind the object that its path names.
pub fn is_wanted(resource: &Resource, info: &RequestInfo) -> bool {
    let proxied = ["nodes", "pods", "services"].iter().any(|plural| resource.is("", plural));
    proxied && info.subresource == "proxy" && !info.name.is_empty()
}

pub async fn serve(app: &App, info: &RequestInfo, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let Some((prefix, path)) = split(request.uri().path()) else { return Err(Status::not_found_path()) };
    let (prefix, query) = (prefix.to_owned(), request.uri().query().map(|q| format!("?{q}")).unwrap_or_default());
    let Some(path) = path.map(|path| format!("{path}{query}")) else {
        return redirect(request.method(), &format!("{prefix}/{query}"));
    };
    let name = Name::parse(&info.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request {:?}", info.resource, info.name)))?;
    let route = match info.resource.as_str() {
        "nodes" => node(app, &name).await?,
        "pods" => pod(app, info, &name).await?,
        _ => service(app, info, &name).await?,
    };
    let dialer =
        app.kubelets.read().clone().ok_or_else(|| Status::service_unavailable("no client certificate for kubelets"))?;
    let target = Target { path: &path, prefix: &prefix, tls: name.scheme == "https" };
    let mut response = match route {
        Route::Kubelet(kubelet) => answered(app, dialer.relay_to_kubelet(kubelet, &target, request).await?),
        Route::Through(kubelet, address) => {
            answered(app, dialer.relay_through(kubelet, address, &target, request).await?)
        }
        Route::Direct(address) => answered(app, dialer.relay_directly(address, &target, request).await?),
    };
    relocate(&mut response, &prefix);
    Ok(response)
}

/// How the API server gets there.
enum Route {
    /// The node's kubelet answers itself.
    Kubelet(Kubelet),
    /// The kubelet of its node dials: the API server need not have a route to the pod network.
    Through(Kubelet, SocketAddr),
    Direct(SocketAddr),
}

/// `[scheme:]name[:port]`, as these paths name what is behind them.
#[derive(PartialEq, Eq, Debug)]
struct Name<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }

    fn number(&self) -> Option<u16> {
        self.port.parse().ok().filter(|port| *port > 0)
    }
}

/// The path up to `proxy`, and what follows it: `None` without the slash that makes relative links work.
fn split(path: &str) -> Option<(&str, Option<&str>)> {
    let segments = if path.starts_with("/api/v1/namespaces/") { 7 } else { 5 };
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    let (prefix, rest) = path.split_at(end);
    prefix.ends_with("/proxy").then_some((prefix, Some(rest).filter(|rest| !rest.is_empty())))
}

fn redirect(method: &Method, to: &str) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::bad_request("the path must go on with a slash"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(to).map_err(Status::internal)?);
    Ok(response)
}

/// Redirects to elsewhere on the same server lead through the proxy again.
fn relocate(response: &mut Response<Body>, prefix: &str) {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(path) = location.filter(|to| to.starts_with('/') && !to.starts_with("//")) else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("{prefix}{path}")) {
        response.headers_mut().insert(header::LOCATION, value);
    }
}

async fn find(app: &App, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let resource = app.kinds.find("", plural).ok_or_else(Status::not_found_path)?;
    let found = app.find(resource, namespace, name).await?;
    parse(&*found.ok_or_else(|| resource.not_found(name))?)
}

async fn node(app: &App, name: &Name<'_>) -> Result<Route, Status> {
    let kubelet = proxy::kubelet_of(&find(app, "nodes", "", name.name).await?)?;
    match (name.port, name.number()) {
        ("", _) => Ok(Route::Kubelet(kubelet)),
        (_, Some(port)) if port == kubelet.port => Ok(Route::Kubelet(kubelet)),
        (_, Some(port)) => Ok(Route::Direct(SocketAddr::new(kubelet.address, port))),
        (_, None) => {
            Err(Status::bad_request(format!("invalid node request {:?}: the port must be a number", name.name)))
        }
    }
}

async fn through(app: &App, node: &str, address: SocketAddr) -> Route {
    let kubelet = match find(app, "nodes", "", node).await {
        Ok(node) => proxy::kubelet_of(&node).ok(),
        Err(_) => None,
    };
    kubelet.map_or(Route::Direct(address), |kubelet| Route::Through(kubelet, address))
}

async fn pod(app: &App, info: &RequestInfo, name: &Name<'_>) -> Result<Route, Status> {
    let pod = find(app, "pods", &info.namespace, name.name).await?;
    let address = pod.pointer("/status/podIP").and_then(Value::as_str).and_then(|ip| ip.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let port = match name.port {
        "" => first_port(&pod).unwrap_or(80),
        _ => name.number().ok_or_else(|| {
            Status::bad_request(format!("invalid pod request {:?}: the port must be a number", info.name))
        })?,
    };
    let node = object::str_at(&pod, &["spec", "nodeName"]);
    Ok(through(app, node, SocketAddr::new(address, port)).await)
}

fn first_port(pod: &Value) -> Option<u16> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array)?;
    let ports = containers.iter().find_map(|c| c.get("ports")?.as_array().filter(|ports| !ports.is_empty()))?;
    ports.first()?.get("containerPort")?.as_u64().and_then(|port| u16::try_from(port).ok())
}

async fn service(app: &App, info: &RequestInfo, name: &Name<'_>) -> Result<Route, Status> {
    let service = find(app, "services", &info.namespace, name.name).await?;
    let port = port_name(&service, name)?;
    let query = Query {
        resource: "discovery.k8s.io/endpointslices",
        namespace: Some(&info.namespace),
        filter: {
            let wanted = name.name.to_owned();
            Filter::new(move |slice| slice.labels().get(SERVICE_NAME) == Some(wanted.as_str()))
        },
        at: At::Any,
        ..Query::default()
    };
    let slices = app.cache.list(&query).await.map_err(store_error)?.objects;
    let mut endpoints = Vec::new();
    for slice in &slices {
        endpoints.extend(ready(&parse(slice)?, &port));
    }
    let Some((address, node)) = endpoints.choose(&mut rand::rng()) else {
        return Err(Status::service_unavailable(format!("no endpoints available for service {:?}", info.name)));
    };
    Ok(through(app, node, *address).await)
}

/// The name of the Service's port that is meant: by number, by name, or the only one.
fn port_name(service: &Value, name: &Name<'_>) -> Result<String, Status> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(number) = name.number() {
        let found = ports.iter().find(|port| port.get("port").and_then(Value::as_u64) == Some(number.into()));
        let absent = || format!("no service port {number} found for service {:?}", name.name);
        return found.map(of).ok_or_else(|| Status::service_unavailable(absent()));
    }
    Ok(match (name.port, ports) {
        ("", [only]) => of(only),
        (port, _) => port.to_owned(),
    })
}

/// Address and node of every endpoint of a slice that takes connections at the named port.
fn ready(slice: &Value, port_name: &str) -> Vec<(SocketAddr, String)> {
    let list = |field: &str| slice.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |port: &&Value| port.get("name").and_then(Value::as_str).unwrap_or_default() == port_name;
    let ports = list("ports");
    let port = ports.iter().find(named).and_then(|port| port.get("port")?.as_u64());
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let endpoint = |endpoint: &Value| {
        let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
        let address = endpoint.pointer("/addresses/0")?.as_str()?.parse::<IpAddr>().ok()?;
        ready.then(|| (SocketAddr::new(address, port), object::str_at(endpoint, &["nodeName"]).to_owned()))
    };
    list("endpoints").iter().filter_map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_a_scheme_and_a_port() {
        let name = |scheme, name, port| Some(Name { scheme, name, port });
        assert_eq!(Name::parse("web"), name("", "web", ""));
        assert_eq!(Name::parse("web:80"), name("", "web", "80"));
        assert_eq!(Name::parse("https:web:"), name("https", "web", ""));
        assert_eq!(Name::parse("https:web:tls"), name("https", "web", "tls"));
        assert_eq!(Name::parse("ftp:web:80"), None);
        assert_eq!(Name::parse(":80"), None);
    }

    #[test]
    fn the_path_behind_the_proxy_is_left_as_it_is() {
        let pod = "/api/v1/namespaces/n/pods/p:80/proxy";
        assert_eq!(split(pod), Some((pod, None)));
        assert_eq!(split(&format!("{pod}/")), Some((pod, Some("/"))));
        assert_eq!(split(&format!("{pod}/a%2Fb//proxy/")), Some((pod, Some("/a%2Fb//proxy/"))));
        assert_eq!(split("/api/v1/nodes/n/proxy/metrics"), Some(("/api/v1/nodes/n/proxy", Some("/metrics"))));
        assert_eq!(split("/api/v1/nodes/n/status/proxy"), None);
    }

    #[test]
    fn endpoints_that_are_ready_take_requests() {
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
        let port = |text: &str| port_name(&service, &Name::parse(text).unwrap()).ok();
        assert_eq!(port("s"), Some("http".into()));
        assert_eq!(port("s:80"), Some("http".into()));
        assert_eq!(port("s:81"), None);
        let slice = json!({"ports": [{"name": "http", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "nodeName": "n"},
        ]});
        assert_eq!(ready(&slice, "http"), [("10.0.0.2:8080".parse().unwrap(), "n".to_owned())]);
        assert_eq!(ready(&slice, "other"), []);
    }
}
