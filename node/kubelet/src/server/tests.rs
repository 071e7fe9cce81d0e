//! The server over TLS, as the API server meets it.

use futures::{SinkExt, StreamExt};
use http_body_util::Empty;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use xebec_clock::Clock;

use super::*;
use crate::config::Tls;
use crate::testing::world::{World, pod, run};

#[derive(Debug)]
struct Fixed(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Fixed {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A certificate authority and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn server(&self) -> Tls {
        let (chain, key) = self.issue();
        let provider = rustls::crypto::ring::default_provider();
        let key = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
        Tls {
            cert_resolver: Arc::new(Fixed(Arc::new(key))),
            client_ca_pem: self.pem.clone().into_bytes(),
            clock: Clock::default(),
        }
    }
}

struct Client {
    address: std::net::SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

impl Client {
    fn new(address: std::net::SocketAddr, trusted: &Authority, own: &Authority) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.der.clone()).unwrap();
        let (chain, key) = own.issue();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        Self { address, config: Arc::new(config) }
    }

    /// Shows no certificate.
    fn anonymous(address: std::net::SocketAddr, trusted: &Authority) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self { address, config: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()) }
    }

    async fn dial(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, String), String> {
        self.get_with(path, "").await
    }

    /// With a bearer token, unless it is empty.
    async fn get_with(&self, path: &str, token: &str) -> Result<(StatusCode, String), String> {
        let stream = self.dial().await.map_err(|e| e.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "n1").body(Empty::<Bytes>::new()).unwrap();
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn websocket(&self, path: &str, protocol: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        let mut request = format!("ws://n1{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (socket, answer) = tokio_tungstenite::client_async(request, self.dial().await.unwrap()).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        socket
    }

    /// Everything a session says on each channel, after `inputs` were sent.
    async fn session(&self, path: &str, protocol: &str, inputs: &[&[u8]]) -> (String, String, Value) {
        let mut socket = self.websocket(path, protocol).await;
        for input in inputs {
            socket.send(Message::Binary(input.to_vec().into())).await.unwrap();
        }
        let mut channels: [Vec<u8>; 5] = Default::default();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
        let text = |channel: usize| String::from_utf8_lossy(&channels[channel]).into_owned();
        (text(1), text(2), serde_json::from_slice(&channels[3]).unwrap_or_default())
    }
}

async fn serve_tls(world: &World, authority: &Authority) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(Arc::clone(&world.kubelet), listener, crate::tls::server(&authority.server()).unwrap()));
    address
}

#[test]
fn logs_exec_and_attach_are_served_to_the_clusters_clients_only() {
    run(async {
        let world = World::start().await;
        let authority = Authority::new();
        let address = serve_tls(&world, &authority).await;
        let client = Client::new(address, &authority, &authority);
        let script = "echo out; sleep 0.2; echo err >&2; while true; do read line && echo got $line; done";
        let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "command": ["sh", "-c", script], "stdin": true},
            {"name": "crash", "command": ["sh", "-c", "echo failing; exit 1"]},
            {"name": "once", "command": ["sh", "-c", "cat; echo end; sleep 100000"], "stdin": true, "stdinOnce": true},
        ]});
        world.apply(&pod("served", spec));
        world.until("served", "crashed twice", |s| s["containerStatuses"][1]["restartCount"] == 1).await;

        assert!(
            Client::new(address, &authority, &Authority::new()).get("/healthz").await.is_err(),
            "a stranger's certificate"
        );
        assert_eq!(client.get("/healthz").await.unwrap(), (StatusCode::OK, "ok".to_owned()));
        let with = async |token: &str, path: &str| {
            Client::anonymous(address, &authority).get_with(path, token).await.unwrap().0
        };
        assert_eq!(with("good", "/metrics/resource").await, StatusCode::OK);
        assert_eq!(with("good", "/pods").await, StatusCode::FORBIDDEN);
        assert_eq!(with("bad", "/metrics").await, StatusCode::UNAUTHORIZED);
        assert_eq!(with("", "/healthz").await, StatusCode::UNAUTHORIZED);
        assert_eq!(client.get("/nothing").await.unwrap().0, StatusCode::NOT_FOUND);
        let applied = async |query: &str| client.get(&format!("/xebec/v1/applied{query}")).await.unwrap();
        assert_eq!(applied("").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(applied("?slices=7").await, (StatusCode::OK, "9".to_owned()));
        let dial = async |query: &str| client.get(&format!("/xebec/v1/dial{query}")).await.unwrap();
        assert_eq!(dial("?address=x&port=1").await.0, StatusCode::BAD_REQUEST);
        assert!(dial("?address=10.0.0.1&port=80").await.1.contains("must be upgraded to xebec-dial"));
        let (_, pods) = client.get("/pods").await.unwrap();
        assert!(pods.contains("\"served\""));
        let (_, summary) = client.get("/stats/summary").await.unwrap();
        assert!(summary.contains("workingSetBytes"), "{summary}");

        let logs = async |query: &str| client.get(&format!("/containerLogs/ns/served/{query}")).await.unwrap();
        assert_eq!(logs("c").await, (StatusCode::OK, "out\nerr\n".to_owned()));
        assert_eq!(logs("crash?previous=true").await, (StatusCode::OK, "failing\n".to_owned()));
        assert_eq!(logs("c?previous=true").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(logs("absent").await.0, StatusCode::NOT_FOUND);
        assert_eq!(logs("c?tailLines=x").await.0, StatusCode::UNPROCESSABLE_ENTITY);

        let exec = |query: &str| format!("/exec/ns/served/c?stdout=true&stderr=true&{query}");
        let (out, err, status) = client
            .session(&exec("command=sh&command=-c&command=echo+a;echo+b%3E%262;exit+7"), "v5.channel.k8s.io", &[])
            .await;
        assert_eq!((out.as_str(), err.as_str()), ("a\n", "b\n"));
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
        let cat = exec("stdin=true&command=cat");
        let (out, _, status) = client.session(&cat, "v5.channel.k8s.io", &[b"\0hello", &[255, 0]]).await;
        assert_eq!((out.as_str(), &status["status"]), ("hello", &json!("Success")));
        let tty = "/exec/ns/served/c?stdin=true&stdout=true&tty=true&command=sh&command=-c&command=sleep+0.3;stty+size";
        let (out, _, status) = client.session(tty, "v4.channel.k8s.io", &[b"\x04{\"Width\":93,\"Height\":41}"]).await;
        assert_eq!((out.as_str(), &status["status"]), ("41 93\r\n", &json!("Success")));
        let (_, _, status) = client.session(&exec("command=/nothing"), "v5.channel.k8s.io", &[]).await;
        assert!(status["message"].as_str().unwrap().contains("no such file"), "{status}");
        assert_eq!(client.get(&exec("")).await.unwrap().0, StatusCode::BAD_REQUEST);

        let mut attached =
            client.websocket("/attach/ns/served/c?stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io").await;
        attached.send(Message::Binary(b"\0word\n".to_vec().into())).await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("got word\n") {
            match tokio::time::timeout(Duration::from_secs(5), attached.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(bytes) if bytes[0] == 1 => seen.extend_from_slice(&bytes[1..]),
                _ => {}
            }
        }
        // Another end of stdin ends the session; with `stdinOnce` the process sees it, and its output goes on.
        attached.send(Message::Binary(vec![255, 0].into())).await.unwrap();
        let rest = tokio::time::timeout(Duration::from_secs(5), attached.collect::<Vec<_>>()).await.unwrap();
        assert!(rest.iter().any(|m| m.as_ref().is_ok_and(|m| m.to_string().contains("Success"))), "{rest:?}");
        let mut once =
            client.websocket("/attach/ns/served/once?stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io").await;
        once.send(Message::Binary(b"\0word\n".to_vec().into())).await.unwrap();
        once.send(Message::Binary(vec![255, 0].into())).await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("word\nend\n") {
            match tokio::time::timeout(Duration::from_secs(5), once.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(bytes) if bytes[0] == 1 => seen.extend_from_slice(&bytes[1..]),
                _ => {}
            }
        }
        // A followed log ends with its container.
        let follow = client.get("/containerLogs/ns/served/c?follow=true");
        let end = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let status = world.status("served");
            let id = status["containerStatuses"][0]["containerID"]
                .as_str()
                .unwrap()
                .trim_start_matches("containerd://")
                .to_owned();
            world.kubelet.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        };
        let (followed, ()) = tokio::join!(follow, end);
        assert_eq!(followed.unwrap(), (StatusCode::OK, "out\nerr\ngot word\n".to_owned()));
    });
}

#[test]
fn ports_are_forwarded_into_the_pods_namespace() {
    run(async {
        let world = World::start().await;
        let authority = Authority::new();
        let client = Client::new(serve_tls(&world, &authority).await, &authority, &authority);
        let script = "echo page > /tmp/page; httpd -f -p 127.0.0.1:8080 -h /tmp";
        let spec =
            json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": ["sh", "-c", script]}]});
        world.apply(&pod("web", spec));
        world.until("web", "running", |s| s["phase"] == "Running").await;
        let ask = async |port: u16, wanted: &str| {
            let mut socket = client.websocket("/portForward/ns/web", "SPDY/3.1+portforward.k8s.io").await;
            let request = spdy::port_forward_request(port, b"GET /page HTTP/1.0\r\n\r\n");
            socket.send(Message::Binary(request.into())).await.unwrap();
            let mut answer = Vec::new();
            while !String::from_utf8_lossy(&answer).contains(wanted) {
                match tokio::time::timeout(Duration::from_secs(5), socket.next()).await {
                    Ok(Some(Ok(Message::Binary(bytes)))) => answer.extend_from_slice(&bytes),
                    Ok(Some(Ok(_))) => {}
                    other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&answer)),
                }
            }
        };
        ask(8080, "page\n").await;
        ask(9, "failed to connect to localhost:9 inside the pod").await;
    });
}
