//! Certificates and tokens over more than a year, by a clock that the test moves: nothing is restarted.

use crate::harness::Cluster;
use base64::Engine;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::bootstrap::{Join, Joined, join};
use xebec_client::connection::{Auth, Connection};
use xebec_client::identity::Identity;
use xebec_client::{Api, Client, Informers, Patch, PatchParams, PostParams};
use xebec_clock::Clock;
use xebec_types::authentication::{TokenRequest, TokenRequestSpec};
use xebec_types::core::{ConfigMap, Node, ServiceAccount};

const DAY: Duration = Duration::from_secs(86_400);
/// Certificates live thirty days and are renewed after twenty: each is found due well before its end.
const STEP: Duration = Duration::from_secs(4 * 86_400);
const STEPS: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_passes_without_a_restart() {
    let clock = Clock::default();
    let cluster = Cluster::by_clock(0, clock.clone()).await;
    let year = Year::begin(&cluster, &clock).await;
    // Held open all the time: its client's certificate expires, and it goes on.
    let informers = Informers::new(cluster.dial(&[cluster.url()]).client().expect("a client"));
    let watched = informers.informer::<ConfigMap>();
    watched.synced().await;
    let (of_then, kubeconfig) = (cluster.dial(&[cluster.url()]), cluster.written_kubeconfig());
    let token = year.token().await;
    assert!(whoever(&of_then).await.is_ok() && whoever(&year.bearing(&token)).await.is_ok());

    for step in 1..=STEPS {
        clock.advance(STEP);
        year.is_renewed().await;
        let day = step * 4;
        whoever(&year.anonymous()).await.unwrap_or_else(|e| panic!("day {day}: the CA is all it takes: {e}"));
        year.node_is_known().await.unwrap_or_else(|e| panic!("day {day}: the node's client: {e}"));
        let text =
            year.ask_kubelet().await.unwrap_or_else(|e| panic!("day {day}: the server as the node's client: {e}"));
        assert_eq!(text, "ok", "day {day}");
    }

    let (first, last) = (identity(&kubeconfig), identity(&cluster.written_kubeconfig()));
    assert!(first.is_expired(clock.now()), "a year and a month have passed");
    assert!(last.not_after() > clock.now() + 100 * DAY, "the file was written again in time");
    for stale in [first, identity_of(&of_then)] {
        let refused = whoever(&Connection { auth: Auth::Certificate(stale), ..of_then.clone() }).await;
        check_unauthorized(refused);
    }
    check_unauthorized(whoever(&year.bearing(&token)).await);
    let renewed = year.token().await;
    whoever(&year.bearing(&renewed)).await.expect("a token of today");

    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "seen"}})).expect("a ConfigMap");
    cluster.api::<ConfigMap>("default").create(&PostParams::default(), &map).await.expect("create");
    cluster.until("the watch of a year ago", || async { watched.get("default", "seen") }).await;
    year.check_metrics().await;
    year.stop.cancel();
}

/// A node with its rotation, and a server that answers in the place of its kubelet.
struct Year<'a> {
    cluster: &'a Cluster,
    clock: &'a Clock,
    node: Arc<Joined>,
    serving: Arc<Identity>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl<'a> Year<'a> {
    async fn begin(cluster: &'a Cluster, clock: &'a Clock) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let options = Join {
            servers: vec![cluster.url()],
            token: Some(cluster.token().parse().expect("token")),
            ca_file: None,
            dir: dir.path().into(),
            node_name: "n1".into(),
            clock: clock.clone(),
        };
        let node = Arc::new(join(&options).await.expect("join"));
        let addresses = [[127, 0, 0, 1].into()];
        let serving = node.serving(&addresses).await.expect("a serving certificate");
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (rotating, own, until) = (Arc::clone(&node), Arc::clone(&serving), stop.clone());
        tasks.spawn(async move { rotating.rotate(&own, &addresses, &until).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        tasks.spawn(kubelet(listener, node.ca_pem.clone(), Arc::clone(&serving), clock.clone()));
        let object = json!({"metadata": {"name": "n1"}});
        let object: Node = serde_json::from_value(object).expect("a Node");
        let nodes = cluster.all::<Node>();
        nodes.create(&PostParams::default(), &object).await.expect("create");
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }});
        nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(status)).await.expect("status");
        Self { cluster, clock, node, serving, stop, _dir: dir, _tasks: tasks }
    }

    /// Nothing is due any more.
    async fn is_renewed(&self) {
        let now = self.clock.now();
        let is_done = || async {
            let of_server = SystemTime::from(self.cluster.pki().serving().validity().renew_at());
            (self.node.identity.renew_at() > now && self.serving.renew_at() > now && of_server > now).then_some(())
        };
        self.cluster.until("renewal of everything that is due", is_done).await;
        let identities = [&self.node.identity, &self.serving];
        let latest = self.clock.now() + 30 * DAY;
        assert!(identities.iter().all(|identity| identity.not_after() <= latest), "by the same clock");
    }

    fn anonymous(&self) -> Connection {
        Connection { auth: Auth::Anonymous, ..self.cluster.dial(&[self.cluster.url()]) }
    }

    fn bearing(&self, token: &str) -> Connection {
        Connection { auth: Auth::Token(token.into()), ..self.anonymous() }
    }

    /// The client that the node made at its start.
    async fn node_is_known(&self) -> Result<(), xebec_client::Error> {
        Api::<Node>::all(self.node.client.clone()).get("n1").await.map(|_| ())
    }

    async fn ask_kubelet(&self) -> Result<String, xebec_client::Error> {
        let request = http::Request::get("/api/v1/nodes/n1/proxy/healthz").body(Vec::new()).expect("a request");
        self.cluster.client.request_text(request).await
    }

    /// For an hour, as pods ask for.
    async fn token(&self) -> String {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let accounts = self.cluster.api::<ServiceAccount>("kube-system");
        let is_there = || async { accounts.get_opt("default").await.ok()? };
        self.cluster.until("an account", is_there).await;
        let made = accounts.create_token_request("default", &PostParams::default(), &request).await;
        let status = made.expect("a token").status.expect("a status");
        let expires = status.expiration_timestamp.expect("an end").0.as_second();
        let now = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let left = expires - i64::try_from(now).expect("seconds");
        assert!((3500..=3600).contains(&left), "{left} s left");
        status.token.expect("a token")
    }

    async fn check_metrics(&self) {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let text = self.cluster.client.request_text(request).await.expect("metrics");
        let value = |series: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in {text}"))
        };
        let now = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        for (name, days) in [
            ("kube-apiserver", 30.0),
            ("kube-apiserver-kubelet-client", 30.0),
            ("kubernetes-admin", 365.0),
            ("ca", 3650.0),
        ] {
            let series = format!(r#"xebec_apiserver_certificate_not_after_timestamp_seconds{{certificate="{name}"}}"#);
            let left = (value(&series) - now) / 86_400.0;
            assert!(left > days / 4.0 && left <= days, "{name} is good for {left} days");
        }
        let bucket =
            |le: &str| value(&format!(r#"apiserver_client_certificate_expiration_seconds_bucket{{le="{le}"}}"#));
        assert!(bucket("2592000") >= f64::from(STEPS), "the node's requests, for thirty days at most");
        assert_eq!(bucket("86400"), 0.0, "nobody ever came with the certificate of the last day");
        let of_node = self.node.metrics(&self.serving);
        for line in
            ["kubelet_certificate_manager_client_ttl_seconds ", "kubelet_certificate_manager_server_ttl_seconds "]
        {
            let left = of_node.lines().find_map(|text| text.strip_prefix(line)?.parse::<f64>().ok()).expect(line);
            assert!((10.0 * 86_400.0..=30.0 * 86_400.0).contains(&left), "{line}{left}");
        }
        assert!(of_node.contains("\nkubelet_certificate_manager_client_expiration_renew_errors 0\n"), "{of_node}");
    }
}

/// Asks what anybody may ask who is not refused as such.
async fn whoever(connection: &Connection) -> Result<(), xebec_client::Error> {
    let client: Client = connection.client().expect("a client");
    client.apiserver_version().await.map(|_| ())
}

#[track_caller]
fn check_unauthorized(answer: Result<(), xebec_client::Error>) {
    match answer {
        Err(xebec_client::Error::Api(status)) => {
            let said = (status.code, status.reason.as_str(), status.message.as_str());
            assert_eq!(said, (401, "Unauthorized", "Unauthorized"));
        }
        other => panic!("{other:?}"),
    }
}

fn identity_of(connection: &Connection) -> Arc<Identity> {
    match &connection.auth {
        Auth::Certificate(identity) => Arc::clone(identity),
        _ => panic!("no certificate"),
    }
}

/// The user of a kubeconfig with everything in it.
fn identity(kubeconfig: &str) -> Arc<Identity> {
    let part = |key: &str| {
        let text = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key)).expect(key);
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text.trim()).expect("base64")).expect("PEM")
    };
    let pem = format!("{}{}", part("client-certificate-data:"), part("client-key-data:"));
    Arc::new(Identity::from_pem(&pem).expect("an identity"))
}

/// Answers whoever shows a certificate of the cluster that is good by the clock.
async fn kubelet(listener: TcpListener, ca_pem: String, serving: Arc<Identity>, clock: Clock) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("a CA")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = rustls::ServerConfig::builder_with_details(provider, Arc::new(clock))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_cert_resolver(serving);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    while let Ok((tcp, _)) = listener.accept().await {
        // Whoever is refused says so.
        let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer).await.ok();
        stream.shutdown().await.ok();
    }
}
