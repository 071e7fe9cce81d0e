//! `xebec server`: the flags of the control plane, named as kube-apiserver's and kube-controller-manager's.

pub mod identity;
mod leader;
pub mod store;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use xebec_agent::{Capacity, TableSize};
use xebec_apiserver::pki::write_secret;
use xebec_apiserver::{AdminKubeconfig, AuthorizationMode, Pki, UserInfo};
use xebec_client::{Client, Informers};
use xebec_controllers::{Accounts, Controllers, CsrSigner, TokenSigner};
use xebec_datapath::SERVICE_BACKENDS_MAX;
use xebec_machinery::net;
use xebec_types::core::ServiceAccount;
use xebec_types::object;

use crate::cluster::unit::LISTEN_FD;
use crate::signal;
use leader::{Candidate, Part};

/// How long a leader may take to release its Leases when the server stops.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Server {
    #[command(flatten)]
    store: store::StoreFlags,
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// The address that nodes and pods reach [default: --bind-address, or the one of the default route]
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// Further names and addresses in the serving certificate
    #[arg(long, value_delimiter = ',')]
    tls_san: Vec<String>,
    /// Addresses of Services: one range, or one of each family, the family that is the default first
    #[arg(long, value_delimiter = ',', default_value = super::SERVICE_CIDR)]
    service_cluster_ip_range: Vec<IpNet>,
    /// As given to the agents: Services and EndpointSlices for which frontends=ENTRIES, backends=ENTRIES, members=ENTRIES,
    /// source-ranges=ENTRIES or maglev-blocks=ENTRIES have no room are refused
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME=ENTRIES,...")]
    datapath_capacity: Capacity,
    /// As given to the agents: how many entries a Maglev table has, for --datapath-capacity
    #[arg(long, default_value_t, value_name = "ENTRIES")]
    maglev_table_size: TableSize,
    /// Addresses of pods: of the same families as --service-cluster-ip-range
    #[arg(long, value_delimiter = ',', default_value = super::CLUSTER_CIDR)]
    cluster_cidr: Vec<IpNet>,
    /// How large a node's part of --cluster-cidr is, when that is of one family
    #[arg(long, conflicts_with_all = ["node_cidr_mask_size_ipv4", "node_cidr_mask_size_ipv6"])]
    node_cidr_mask_size: Option<u8>,
    #[arg(long, default_value_t = 24)]
    node_cidr_mask_size_ipv4: u8,
    #[arg(long, default_value_t = 64)]
    node_cidr_mask_size_ipv6: u8,
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// Lines of token,user,uid,"group,group"
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC")]
    authorization_mode: Vec<AuthorizationMode>,
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: String,
    /// Which controllers run: `*`, names, and `-name` for all but one
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    #[arg(long)]
    no_scheduler: bool,
    #[command(flatten)]
    leader: leader::ElectionFlags,
    /// How long a node may be silent before it is NotReady
    #[arg(long, default_value_t = 40, value_name = "SECONDS")]
    node_monitor_grace_period: u64,
    /// How long tokens in Secrets may go unused before they are refused, and then before they are deleted
    #[arg(long, default_value = "8760h", value_parser = leader::duration, value_name = "DURATION")]
    legacy_service_account_token_clean_up_period: Duration,
    /// Addresses for Services of type LoadBalancer, such as 192.0.2.0/24 or 192.0.2.10-192.0.2.20. Nodes answer ARP for
    /// them on their own network
    #[arg(long, value_delimiter = ',', value_name = "CIDR|FIRST-LAST")]
    load_balancer_pool: Vec<xebec_controllers::service_lb::AddressRange>,
    /// Write a kubeconfig with a client certificate of system:masters here, and again before it expires
    #[arg(long)]
    write_kubeconfig: Option<PathBuf>,
    /// The server in that kubeconfig [default: https://ADDRESS:PORT]
    #[arg(long)]
    kubeconfig_server: Option<String>,
}

impl Server {
    /// # Errors
    /// A flag that cannot be used, a store that cannot be opened, or a part that ended.
    pub async fn run(self) -> Result<()> {
        check_networks(&self.service_cluster_ip_range, &self.cluster_cidr)?;
        if self.node_cidr_mask_size.is_some() && self.cluster_cidr.len() > 1 {
            bail!(
                "--node-cidr-mask-size is for one family: use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"
            );
        }
        let data_dir = &self.store.data_dir;
        std::fs::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
        let bound = Some(self.bind_address).filter(|address| !address.is_unspecified());
        let advertise = self.advertise_address.or(bound).map_or_else(default_address, Ok)?;
        let candidate = Candidate::new(&self.leader, &self.store.data_dir)?;
        let pki = Arc::new(self.pki(advertise)?);
        let token = join_token(&self.store.data_dir, &pki)?;
        let store = self.store.open().await?;
        let config = self.apiserver(Arc::clone(&pki), advertise, &token)?;
        let stop = CancellationToken::new();
        signal::cancel_on_termination(stop.clone())?;
        let server = xebec_apiserver::Server::start(config, store).await.context("start the API server")?;
        tracing::info!(address = %self.bind_address, port = self.secure_port, "serving");
        // The roles are objects too: before they are there, every request of a controller would be refused.
        server.ready().await;
        let parts = self.parts(&server, &pki);
        let informers = component(&server, "system:kube-controller-manager");
        let leading = stop.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { candidate.run(&parts, || Informers::new(informers.clone()), &leading).await });
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = tasks.join_next() => bail!("the controllers or the scheduler ended: {ended:?}"),
        }
        // Leases are released through the server: it stops after them.
        if tokio::time::timeout(RELEASE_TIMEOUT, tasks.join_next()).await.is_err() {
            tracing::warn!("leadership was not released in time");
        }
        server.shutdown().await;
        Ok(())
    }

    fn pki(&self, advertise: IpAddr) -> Result<Pki> {
        let mut sans = vec![
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            advertise.to_string(),
        ];
        sans.extend(self.service_cluster_ip_range.iter().map(|range| net::address(*range, 1).to_string()));
        if !self.bind_address.is_unspecified() {
            sans.push(self.bind_address.to_string());
        }
        sans.extend(self.tls_san.iter().cloned());
        sans.sort();
        sans.dedup();
        Ok(Pki::load_or_create(self.store.data_dir.join("pki"), &sans)?)
    }

    fn apiserver(&self, pki: Arc<Pki>, advertise: IpAddr, token: &str) -> Result<xebec_apiserver::Config> {
        let address = (self.bind_address, self.secure_port);
        let bound = TcpListener::bind(address).with_context(|| {
            format!("listen on {}:{}: is another server running?", self.bind_address, self.secure_port)
        })?;
        let listeners = passed_listener()?.into_iter().chain([bound]).collect();
        Ok(xebec_apiserver::Config {
            advertise_address: advertise,
            advertise_port: self.secure_port,
            // The name of a network, as its ServiceCIDR wants it: 10.96.0.1/16 is 10.96.0.0/16.
            service_cluster_ip_range: self.service_cluster_ip_range.iter().map(IpNet::trunc).collect(),
            service_limits: xebec_apiserver::ServiceLimits {
                frontends: self.datapath_capacity.frontends,
                backends: self.datapath_capacity.backends,
                members: self.datapath_capacity.members,
                source_ranges: self.datapath_capacity.source_ranges,
                maglev_blocks: self.datapath_capacity.maglev_blocks,
                maglev_table_blocks: self.maglev_table_size.blocks(),
                service_backends: SERVICE_BACKENDS_MAX.into(),
            },
            service_account_issuer: self.service_account_issuer.clone(),
            authorization_mode: self.authorization_mode.clone(),
            token_auth_file: self.token_auth_file.clone(),
            client_ca_file: self.client_ca_file.clone(),
            bootstrap_token: Some(token.to_owned()),
            admin_kubeconfig: self.admin_kubeconfig(advertise),
            enable_admission_plugins: self.enable_admission_plugins.clone(),
            disable_admission_plugins: self.disable_admission_plugins.clone(),
            shared_store: !self.store.is_embedded(),
            ..xebec_apiserver::Config::new(pki, listeners)
        })
    }

    /// What runs on one server only.
    fn parts(&self, server: &xebec_apiserver::Server, pki: &Arc<Pki>) -> Vec<Part> {
        let config = xebec_controllers::Config {
            cluster_cidrs: self.cluster_cidr.clone(),
            node_cidr_mask_ipv4: self.node_cidr_mask_size.unwrap_or(self.node_cidr_mask_size_ipv4),
            node_cidr_mask_ipv6: self.node_cidr_mask_size.unwrap_or(self.node_cidr_mask_size_ipv6),
            service_cidrs: self.service_cluster_ip_range.clone(),
            ca_pem: pki.ca_pem().to_owned(),
            signer: Some(Arc::new(Signer(Arc::clone(pki)))),
            token_signer: Some(Arc::new(Tokens(server.secret_tokens()))),
            legacy_service_account_token_clean_up_period: self.legacy_service_account_token_clean_up_period,
            node_monitor_grace_period: Duration::from_secs(self.node_monitor_grace_period),
            controllers: self.controllers.clone(),
            load_balancer_pools: self.load_balancer_pool.clone(),
            clock: pki.clock().clone(),
            ..xebec_controllers::Config::default()
        };
        let service = server.local_client_service(UserInfo::anonymous());
        let accounts = Accounts::new(move |account| {
            Client::new(service.as_user(UserInfo::service_account("kube-system", account)), "default")
        });
        let mut parts = vec![Part {
            lease: "kube-controller-manager",
            client: component(server, "system:kube-controller-manager"),
            run: Box::new(move |informers, stop| {
                let controllers = Controllers { accounts: accounts.clone(), informers, config: config.clone() };
                Box::pin(xebec_controllers::run(controllers, stop))
            }),
        }];
        if !self.no_scheduler {
            let client = component(server, "system:kube-scheduler");
            let (acting, clock) = (client.clone(), pki.clock().clone());
            parts.push(Part {
                lease: "kube-scheduler",
                client,
                run: Box::new(move |informers, stop| {
                    let config = xebec_scheduler::Config { clock: clock.clone(), ..xebec_scheduler::Config::default() };
                    Box::pin(xebec_scheduler::run(acting.clone(), informers, config, stop))
                }),
            });
        }
        parts
    }

    fn admin_kubeconfig(&self, advertise: IpAddr) -> Option<AdminKubeconfig> {
        let own = || format!("https://{}", SocketAddr::new(advertise, self.secure_port));
        let server = self.kubeconfig_server.clone().unwrap_or_else(own);
        self.write_kubeconfig.clone().map(|path| AdminKubeconfig { path, server })
    }
}

/// Whether the ranges of Services and pods are of the same families.
pub fn check_networks(services: &[IpNet], pods: &[IpNet]) -> Result<()> {
    net::one_of_each(services).map_err(|why| anyhow!("--service-cluster-ip-range {why}"))?;
    net::one_of_each(pods).map_err(|why| anyhow!("--cluster-cidr {why}"))?;
    let families = |nets: &[IpNet]| nets.iter().map(|net| net::IpFamily::of_net(*net)).collect::<Vec<_>>();
    if families(services) != families(pods) {
        bail!("--service-cluster-ip-range and --cluster-cidr must be of the same IP families, in the same order");
    }
    Ok(())
}

/// A client in this process: past authentication, but authorized and admitted as any other.
fn client(server: &xebec_apiserver::Server, user: UserInfo) -> Client {
    Client::new(server.local_client_service(user), "default")
}

fn component(server: &xebec_apiserver::Server, name: &str) -> Client {
    client(server, UserInfo::new(name, &["system:authenticated"]))
}

struct Tokens(xebec_apiserver::SecretTokens);

impl TokenSigner for Tokens {
    fn sign(&self, account: &ServiceAccount, secret_name: &str) -> Result<String, String> {
        let of = &account.metadata;
        self.0.sign(object::namespace(of), (object::name(of), object::uid(of)), secret_name)
    }
}

struct Signer(Arc<Pki>);

#[async_trait::async_trait]
impl CsrSigner for Signer {
    async fn sign(&self, csr_pem: &str, signer: &str) -> Result<String, String> {
        self.sign_for(csr_pem, signer, None).await
    }

    async fn sign_for(&self, csr_pem: &str, signer: &str, expiration_seconds: Option<i32>) -> Result<String, String> {
        self.0.sign_csr(csr_pem, signer, expiration_seconds.map(i64::from)).map_err(|error| xebec_client::chain(&error))
    }
}

/// `id.secret@sha256:HASH`: made once, kept for nodes that join later.
fn join_token(data_dir: &Path, pki: &Pki) -> Result<String> {
    let path = data_dir.join("join-token");
    let stored = std::fs::read_to_string(&path).ok();
    let credentials = match stored.as_deref().and_then(|text| text.trim().split_once('@')) {
        Some((credentials, _)) => credentials.to_owned(),
        None => random_token()?,
    };
    let hash: String = Sha256::digest(pki.ca_der()).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{credentials}@sha256:{hash}\n");
    if stored.as_deref() != Some(&text) {
        write_secret(&path, text)?;
    }
    Ok(credentials)
}

/// `[a-z0-9]{6}.[a-z0-9]{16}` from the kernel's random numbers.
fn random_token() -> Result<String> {
    use std::io::Read;
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0; 22];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    let text: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    Ok(format!("{}.{}", &text[..6], &text[6..]))
}

/// The socket that systemd or the supervisor passes (sd_listen_fds(3)).
fn passed_listener() -> Result<Option<TcpListener>> {
    let own = std::process::id().to_string();
    let meant = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own) || std::env::var_os("LISTEN_PID").is_none();
    if !meant || std::env::var("LISTEN_FDS").as_deref() != Ok("1") {
        return Ok(None);
    }
    // SAFETY: the caller passed this descriptor for us to own, and nothing else here uses it.
    let listener = unsafe { TcpListener::from_raw_fd(LISTEN_FD) };
    listener.local_addr().context("LISTEN_FDS is set, but descriptor 3 is not a listening socket")?;
    Ok(Some(listener))
}

/// The source address of the default route.
fn default_address() -> Result<IpAddr> {
    let probe = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        // TEST-NET-3 (RFC 5737): connecting a UDP socket sends nothing.
        socket.connect("203.0.113.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    Ok(probe().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)))
}
