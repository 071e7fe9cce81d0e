//! Whether the hooks work, not whether they are attached: sockets in the cgroups of pods and of the node dial a reserved
//! frontend of each family, and a pod's device gets a packet for it.

mod client;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use xebec_client::chain;
use xebec_datapath::Datapath;
use xebec_netlink::Netns;
use xebec_podnet::PodNetwork;
use xebec_podnet::ipam::Record;

pub use client::dial;

/// Between two tries.
const PERIOD: Duration = Duration::from_secs(30);
/// For a process that dials; it gives up by itself long before.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a packet on this machine.
const WAIT: Duration = Duration::from_millis(500);
/// The leaf below each cgroup that the dialling process is put into: processes may not be in inner ones.
pub const LEAF: &str = "xebec-canary";
/// Starts what is not answered.
const ONE_WAY: &[u8] = b"one-way";

/// What was found out about each program: where it was tried from, and why it does not work.
pub type Outcomes = BTreeMap<String, Option<String>>;

/// Tries at once and then every [`PERIOD`], for ever. That it cannot try is an outcome too.
pub async fn follow(datapath: Arc<Datapath>, network: Arc<PodNetwork>, outcomes: watch::Sender<Outcomes>) {
    loop {
        let Err(error) = try_for_ever(&datapath, &network, &outcomes).await;
        let fault = chain(&error);
        tracing::warn!(error = fault, "the datapath is not tried");
        outcomes.send_replace(Outcomes::from([("canary".to_owned(), Some(fault))]));
        tokio::time::sleep(PERIOD).await;
    }
}

/// # Errors
/// When a socket on a gateway's address cannot be opened or used.
async fn try_for_ever(
    datapath: &Datapath,
    network: &PodNetwork,
    outcomes: &watch::Sender<Outcomes>,
) -> io::Result<Infallible> {
    let mut backends = Vec::new();
    for network in &network.node().networks {
        backends.push(Backend::open(network.gateway()).await?);
    }
    let (arrived, arrivals) = watch::channel(Vec::new());
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let try_all = async {
        loop {
            let found = attempt(datapath, network, &addresses, arrivals.clone()).await;
            for (program, fault) in found.iter().filter_map(|(program, fault)| Some((program, fault.as_ref()?))) {
                tracing::warn!(program, fault, "a program of the datapath does not work");
            }
            outcomes.send_replace(found);
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        never = try_all => never,
        ended = select_all(backends.iter().map(|backend| Box::pin(backend.serve(&arrived)))) => ended.0,
    }
}

/// What the canary's frontend of one family leads to.
struct Backend {
    address: SocketAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Backend {
    async fn open(gateway: IpAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind((gateway, 0)).await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await?;
        Ok(Self { address, tcp, udp })
    }

    async fn serve(&self, arrived: &watch::Sender<Vec<u8>>) -> io::Result<Infallible> {
        tokio::select! {
            ended = accept(&self.tcp) => ended,
            ended = answer(&self.udp, arrived) => ended,
        }
    }
}

async fn accept(tcp: &TcpListener) -> io::Result<Infallible> {
    loop {
        // A connection is all that the canary asks for.
        drop(tcp.accept().await?);
    }
}

async fn answer(udp: &UdpSocket, arrived: &watch::Sender<Vec<u8>>) -> io::Result<Infallible> {
    let mut buffer = [0; 64];
    loop {
        let (length, from) = udp.recv_from(&mut buffer).await?;
        let payload = &buffer[..length];
        if payload.starts_with(ONE_WAY) {
            arrived.send_replace(payload.to_vec());
        } else {
            // Who asked may be gone.
            let _ = udp.send_to(payload, from).await;
        }
    }
}

async fn attempt(
    datapath: &Datapath,
    network: &PodNetwork,
    backends: &[SocketAddr],
    arrivals: watch::Receiver<Vec<u8>>,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let frontends = match backends.iter().map(|backend| datapath.put_canary(*backend)).collect::<Result<Vec<_>, _>>() {
        Ok(frontends) => frontends,
        Err(error) => {
            outcomes.insert("canary".to_owned(), Some(chain(&error)));
            return outcomes;
        }
    };
    let config = datapath.config();
    for (place, cgroup) in [("pods", &config.cgroup_pods), ("node", &config.cgroup_node)] {
        match dial_from(&cgroup.join(LEAF), &frontends).await {
            Ok(found) => outcomes.extend(found.into_iter().map(|(hook, fault)| (format!("{hook} in {place}"), fault))),
            Err(error) => drop(outcomes.insert(format!("sockets in {place}"), Some(error.to_string()))),
        }
    }
    for (frontend, backend) in frontends.into_iter().zip(backends) {
        let program = if frontend.is_ipv4() { "from_pod" } else { "from_pod6" };
        let of_family =
            |record: Record| Some((record.ips().find(|ip| ip.is_ipv4() == frontend.is_ipv4())?, record.netns));
        if let Some((ip, netns)) = network.records().into_iter().find_map(of_family) {
            let fault = through_pod(&netns, source(ip, *backend), frontend, arrivals.clone()).await.err();
            outcomes.insert(program.to_owned(), fault.map(|error| error.to_string()));
        }
    }
    outcomes
}

/// Runs the client in a process in a cgroup of its own.
async fn dial_from(cgroup: &Path, frontends: &[SocketAddr]) -> io::Result<Outcomes> {
    std::fs::create_dir_all(cgroup)?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("canary").arg("--cgroup").arg(cgroup);
    for frontend in frontends {
        command.args(["--frontend", &frontend.to_string()]);
    }
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await??;
    // It may be busy for another moment; the next try finds it there and uses it.
    let _ = std::fs::remove_dir(cgroup);
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(io::Error::other)
}

/// Where a pod's packet comes from: not from a port that an agent before this one used, as that flow still leads to what that
/// one listened on.
fn source(pod: IpAddr, backend: SocketAddr) -> SocketAddr {
    SocketAddr::new(pod, backend.port())
}

/// A packet that no socket hook sees, from inside a pod.
async fn through_pod(
    netns: &Path,
    from: SocketAddr,
    frontend: SocketAddr,
    mut arrivals: watch::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let payload = [ONE_WAY, from.to_string().as_bytes()].concat();
    arrivals.mark_unchanged();
    let packet = client::datagram(from, frontend, &payload);
    let path = netns.to_owned();
    let sent = tokio::task::spawn_blocking(move || {
        let netns = Netns::open(&path).map_err(io::Error::other)?;
        netns.run(|| client::send_raw(&packet, frontend.ip())).map_err(io::Error::other)?
    });
    sent.await.map_err(io::Error::other)??;
    let arrived = arrivals.wait_for(|arrived| *arrived == payload);
    match tokio::time::timeout(WAIT, arrived).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other(format!("a packet from the pod at {} to {frontend} did not arrive", from.ip()))),
    }
}

/// The IPv4-mapped twin of an address.
fn mapped(address: SocketAddrV4) -> SocketAddr {
    SocketAddr::new(address.ip().to_ipv6_mapped().into(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_are_of_no_flow_of_the_agent_before() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let (before, now) = (Backend::open(here).await.expect("a port"), Backend::open(here).await.expect("another"));
        let pod = IpAddr::from([10, 244, 0, 2]);
        assert_ne!(source(pod, before.address), source(pod, now.address));
    }
}
