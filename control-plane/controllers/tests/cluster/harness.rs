//! An API server with its controllers, on a store of its own.

use crate::denials::{Denials, Watched};
use crate::{PATIENCE, node};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_apiserver::pki::Pki;
use xebec_apiserver::{AdminKubeconfig, SecretTokens, Server, ServiceLimits, UserInfo};
use xebec_client::connection::{Auth, Connection};
use xebec_client::identity::Identity;
use xebec_client::kube::core::NamespaceResourceScope;
use xebec_client::{Api, Client, Informers, ListParams, PostParams, Resource};
use xebec_clock::Clock;
use xebec_controllers::{Accounts, Config, Controllers, CsrSigner, TokenSigner};
use xebec_types::apps::Deployment;
use xebec_types::core::{Namespace, Node, Pod, ServiceAccount};
use xebec_types::discovery::{Endpoint, EndpointSlice};
use xebec_types::{object, pod};

pub struct Cluster {
    pub client: Client,
    port: u16,
    pki: Arc<Pki>,
    nodes: Vec<(String, CancellationToken)>,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
    server: Option<Server>,
    dir: tempfile::TempDir,
    pub denials: Denials,
    pub accounts: Accounts,
}

const TOKEN: &str = "abcdef.0123456789abcdef";

struct Signer(Arc<Pki>);

#[async_trait::async_trait]
impl CsrSigner for Signer {
    async fn sign(&self, csr_pem: &str, signer: &str) -> Result<String, String> {
        self.0.sign_csr(csr_pem, signer, None).map_err(|e| xebec_client::chain(&e))
    }
}

struct Tokens(SecretTokens);

impl TokenSigner for Tokens {
    fn sign(&self, account: &ServiceAccount, secret_name: &str) -> Result<String, String> {
        let of = &account.metadata;
        self.0.sign(object::namespace(of), (object::name(of), object::uid(of)), secret_name)
    }
}

async fn serve(dir: &Path, pki: &Arc<Pki>, listener: TcpListener, limits: ServiceLimits) -> Server {
    let store = loop {
        match xebec_store::embedded::open(&dir.join("db")).await {
            Ok(store) => break store,
            Err(error) => eprintln!("store: {error}"), // The last request of a former server.
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let config = xebec_apiserver::Config {
        bootstrap_token: Some(TOKEN.into()),
        admin_kubeconfig: Some(AdminKubeconfig {
            path: dir.join("kubeconfig"),
            server: format!("https://{}", listener.local_addr().expect("address")),
        }),
        shutdown_grace: Duration::from_millis(200),
        service_limits: limits,
        ..xebec_apiserver::Config::new(Arc::clone(pki), vec![listener])
    };
    let server = Server::start(config, Arc::new(store)).await.expect("server");
    server.ready().await;
    server
}

impl Cluster {
    pub async fn start(nodes: usize) -> Self {
        Self::by_clock(nodes, Clock::default()).await
    }

    /// With nodes whose datapath takes no more than this, as the server is told.
    #[allow(dead_code)] // The example has none.
    pub async fn with_limits(nodes: usize, limits: ServiceLimits) -> Self {
        Self::with(nodes, Clock::default(), limits).await
    }

    /// With a server that goes by this clock.
    pub async fn by_clock(nodes: usize, clock: Clock) -> Self {
        Self::with(nodes, clock, ServiceLimits::NONE).await
    }

    async fn with(nodes: usize, clock: Clock, limits: ServiceLimits) -> Self {
        xebec_client::connection::install_crypto();
        // RUST_LOG=debug shows what a test that fails was waiting for.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).try_init().ok();
        let dir = tempfile::tempdir().expect("dir");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("address").port();
        let sans = ["127.0.0.1".to_string(), "localhost".into()];
        let pki = Arc::new(Pki::by_clock(dir.path().join("pki"), &sans, clock).expect("pki"));
        let server = serve(dir.path(), &pki, listener, limits).await;
        let user = UserInfo::new("test", &["system:masters", "system:authenticated"]);
        let client = Client::new(server.local_client_service(user), "default");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let config = Config {
            ca_pem: pki.ca_pem().to_string(),
            signer: Some(Arc::new(Signer(Arc::clone(&pki)))),
            token_signer: Some(Arc::new(Tokens(server.secret_tokens()))),
            node_monitor_grace_period: Duration::from_secs(3),
            clock: pki.clock().clone(),
            ..Config::default()
        };
        let (service, denials) = (server.local_client_service(UserInfo::anonymous()), Denials::default());
        let watched = denials.clone();
        let accounts = Accounts::new(move |account| {
            let user = UserInfo::service_account("kube-system", account);
            Client::new(Watched::new(service.as_user(user), watched.clone()), "default")
        });
        let seen =
            server.local_client_service(UserInfo::new("system:kube-controller-manager", &["system:authenticated"]));
        let informers = Informers::new(Client::new(Watched::new(seen, denials.clone()), "default"));
        let controllers = Controllers { accounts: accounts.clone(), informers: informers.clone(), config };
        tasks.spawn(xebec_controllers::run(controllers, stop.clone()));
        let mut cluster = Self {
            client,
            port,
            pki,
            nodes: Vec::new(),
            stop,
            _tasks: tasks,
            server: Some(server),
            dir,
            denials,
            accounts,
        };
        cluster.add_nodes(nodes, &informers).await;
        cluster
    }

    async fn add_nodes(&mut self, count: usize, informers: &Informers) {
        for n in 0..count {
            let (name, stop) = (format!("n{n}"), self.stop.child_token());
            let run = node::run(self.client.clone(), informers.clone(), name.clone(), stop.clone());
            self._tasks.spawn(run);
            self.nodes.push((name, stop));
        }
        let names = self.nodes.iter().map(|(name, _)| name.clone()).collect();
        let (client, stop) = (self.client.clone(), self.stop.clone());
        self._tasks.spawn(node::schedule(client, informers.clone(), names, stop));
        let registered = || async {
            (self.all::<Node>().list(&ListParams::default()).await.ok()?.items.len() >= count).then_some(())
        };
        self.until("registered nodes", registered).await;
    }

    /// Stops a node's agent; nothing tells the server.
    pub fn kill_node(&mut self) -> String {
        let (name, stop) = self.nodes.pop().expect("a node");
        stop.cancel();
        name
    }

    /// Ends the server and starts another on what it left. Clients in this process do not follow:
    /// only those that dial.
    #[allow(dead_code)]
    pub async fn restart(&mut self) {
        self.stop.cancel();
        while self._tasks.join_next().await.is_some() {}
        // The client in this process holds the server that it came from.
        self.client = self.dial(&[self.url()]).client().expect("client");
        self.accounts = Accounts::shared(self.client.clone());
        let server = self.server.take().expect("a server");
        server.shutdown().await;
        drop(server);
        let address = ("127.0.0.1", self.port);
        let listener = self.until("free port", || async { TcpListener::bind(address).ok() }).await;
        self.server = Some(serve(self.dir.path(), &self.pki, listener, ServiceLimits::NONE).await);
    }

    /// A certificate and key whose life is mostly over.
    pub fn short_lived(&self, name: &str, group: &str) -> String {
        self.lives_for(Duration::from_secs(30), name, group)
    }

    /// A certificate and key that expire after `rest`.
    pub fn lives_for(&self, rest: Duration, name: &str, group: &str) -> String {
        let life = (rest + Duration::from_secs(300)).try_into().expect("short"); // Backdated by five minutes.
        let issued = self.pki.issue_client_for(name, &[group], life).expect("certificate");
        format!("{}{}", issued.cert_pem, issued.key_pem)
    }

    /// A connection over TLS with an administrator's certificate.
    pub fn dial(&self, servers: &[String]) -> Connection {
        let issued = self.pki.issue_client("tester", &["system:masters"]).expect("certificate");
        let pem = format!("{}{}", issued.cert_pem, issued.key_pem);
        Connection {
            servers: servers.to_vec(),
            ca_pem: self.pki.ca_pem().into(),
            auth: Auth::Certificate(Arc::new(Identity::from_pem(&pem).expect("identity"))),
            clock: self.pki.clock().clone(),
        }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    #[allow(dead_code)] // For the example.
    pub fn kubeconfig(&self) -> String {
        self.pki.admin_kubeconfig(&self.url()).expect("kubeconfig")
    }

    /// As the server wrote it last.
    #[allow(dead_code)] // The example needs neither.
    pub fn written_kubeconfig(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("kubeconfig")).expect("a kubeconfig")
    }

    #[allow(dead_code)]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    pub fn ca_hash(&self) -> String {
        let token = xebec_client::bootstrap::Token::with_ca("abcdef", "x", self.pki.ca_der());
        token.reveal().rsplit(':').next().expect("hash").to_string()
    }

    pub fn token(&self) -> String {
        format!("{TOKEN}@sha256:{}", self.ca_hash())
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        Api::all(self.client.clone())
    }

    pub async fn namespace(&self, name: &str) {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        let api = self.all::<Namespace>();
        api.create(&PostParams::default(), &namespace).await.expect("create namespace");
    }

    /// Asks until there is an answer; panics with the question after a minute.
    pub async fn until<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "no {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ready_pods(&self, namespace: &str, count: usize) {
        let api = self.api::<Pod>(namespace);
        let ask = || async {
            let pods = api.list(&Default::default()).await.ok()?.items;
            (pods.iter().filter(|p| pod::is_ready(p)).count() == count).then_some(())
        };
        self.until(&format!("{count} ready pods"), ask).await;
    }

    /// As `kubectl rollout status` waits.
    pub async fn rolled_out(&self, namespace: &str, name: &str) {
        let api = self.api::<Deployment>(namespace);
        let ask = || async {
            let deployment = api.get(name).await.ok()?;
            let status = deployment.status?;
            let replicas = deployment.spec?.replicas?;
            let observed = status.observed_generation >= deployment.metadata.generation;
            let all = [status.replicas, status.updated_replicas, status.available_replicas];
            (observed && all.iter().all(|n| *n == Some(replicas))).then_some(())
        };
        self.until("finished rollout", ask).await;
    }

    pub async fn ready_endpoints(&self, namespace: &str, service: &str, count: usize) {
        let api = self.api::<EndpointSlice>(namespace);
        let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let ask = || async {
            let slices = api.list(&of).await.ok()?.items;
            let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
            let is_ready = |e: &&Endpoint| e.conditions.as_ref().and_then(|c| c.ready) == Some(true);
            (endpoints.filter(is_ready).count() == count).then_some(())
        };
        self.until(&format!("{count} ready endpoints"), ask).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        if !std::thread::panicking() {
            self.denials.assert_none();
        }
    }
}
