//! `/xebec/v1/dial?address=IP&port=N`: a connection to a pod of this node, for the API server's proxies. It need not have a route to the pod network.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use xebec_types::pod as api_pod;

use super::{Answer, Refused};
use crate::kubelet::Kubelet;

/// What both sides call the stream of bytes that follows the upgrade (control-plane/apiserver, `proxy`).
const PROTOCOL: &str = "xebec-dial";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    kubelet: &Kubelet,
    mut request: Request<Incoming>,
    query: &[(String, String)],
) -> Result<Answer, Refused> {
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let address = value("address").and_then(|text| text.parse::<IpAddr>().ok());
    let port = value("port").and_then(|text| text.parse::<u16>().ok()).filter(|port| *port > 0);
    let (Some(address), Some(port)) = (address, port) else {
        return Err(Refused::bad_request("address must be an IP address and port a number"));
    };
    if request.headers().get(header::UPGRADE).is_none_or(|upgrade| upgrade.as_bytes() != PROTOCOL.as_bytes()) {
        return Err(Refused::bad_request(format!("the request must be upgraded to {PROTOCOL}")));
    }
    if !is_of_a_pod(kubelet, address) {
        return Err(Refused::not_found(format!("no pod of this node has the address {address}")));
    }
    let failed = |why: &dyn std::fmt::Display| {
        Refused(StatusCode::BAD_GATEWAY, format!("dial tcp {}: {why}", std::net::SocketAddr::new(address, port)))
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((address, port))).await;
    let mut pod = connected.map_err(|_| failed(&"i/o timeout"))?.map_err(|error| failed(&error))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        if let Err(error) = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut pod).await {
            tracing::debug!(%address, port, %error, "connection to a pod ended");
        }
    });
    let mut answer = Answer::new(http_body_util::Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Ok(answer)
}

/// Whoever asks may reach what runs here, and no other host through this one.
fn is_of_a_pod(kubelet: &Kubelet, address: IpAddr) -> bool {
    let pods = kubelet.pods();
    pods.iter().filter(|pod| !api_pod::is_terminal(pod)).any(|pod| {
        let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten());
        ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok()).any(|ip| ip == address)
    })
}
