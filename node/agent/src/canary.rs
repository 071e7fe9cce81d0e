//! Whether the hooks work, not whether they are attached: sockets in the cgroups of pods and of the node dial a reserved
//! frontend, and a pod's device gets a packet for it.

mod client;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use xebec_client::chain;
use xebec_datapath::{CANARY, Datapath};
use xebec_netlink::Netns;
use xebec_podnet::PodNetwork;

pub use client::dial;

/// Between two tries.
const PERIOD: Duration = Duration::from_secs(30);
/// For a process that dials; it gives up by itself long before.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a packet on this machine.
const WAIT: Duration = Duration::from_millis(500);
/// The leaf below each cgroup that the dialling process is put into: processes may not be in inner ones.
const LEAF: &str = "xebec-canary";
/// Starts what is not answered.
const ONE_WAY: &[u8] = b"one-way";

/// What was found out about each program: where it was tried from, and why it does not work.
pub type Outcomes = BTreeMap<String, Option<String>>;

/// Tries at once and then every [`PERIOD`], for ever. That it cannot try is an outcome too.
pub async fn follow(datapath: Arc<Datapath>, network: Arc<PodNetwork>, outcomes: watch::Sender<Outcomes>) {
    let Some(ipv4) = datapath.config().ipv4 else {
        // What is dialled is an IPv4 address.
        return std::future::pending().await;
    };
    loop {
        let Err(error) = try_for_ever(&datapath, &network, ipv4.gateway, &outcomes).await;
        let fault = chain(&error);
        tracing::warn!(error = fault, "the datapath is not tried");
        outcomes.send_replace(Outcomes::from([("canary".to_owned(), Some(fault))]));
        tokio::time::sleep(PERIOD).await;
    }
}

/// # Errors
/// When a socket on the gateway's address cannot be opened or used.
async fn try_for_ever(
    datapath: &Datapath,
    network: &PodNetwork,
    gateway: Ipv4Addr,
    outcomes: &watch::Sender<Outcomes>,
) -> io::Result<Infallible> {
    let tcp = TcpListener::bind((gateway, 0)).await?;
    let port = tcp.local_addr()?.port();
    let udp = UdpSocket::bind((gateway, port)).await?;
    let (arrived, arrivals) = watch::channel(Vec::new());
    let try_all = async {
        loop {
            let found = attempt(datapath, network, SocketAddrV4::new(gateway, port), arrivals.clone()).await;
            for (program, fault) in found.iter().filter_map(|(program, fault)| Some((program, fault.as_ref()?))) {
                tracing::warn!(program, fault, "a program of the datapath does not work");
            }
            outcomes.send_replace(found);
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        never = try_all => never,
        ended = accept(&tcp) => ended,
        ended = answer(&udp, &arrived) => ended,
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
    backend: SocketAddrV4,
    arrivals: watch::Receiver<Vec<u8>>,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    if let Err(error) = datapath.put_canary(backend) {
        outcomes.insert("canary".to_owned(), Some(chain(&error)));
        return outcomes;
    }
    let config = datapath.config();
    for (place, cgroup) in [("pods", &config.cgroup_pods), ("node", &config.cgroup_node)] {
        match dial_from(&cgroup.join(LEAF)).await {
            Ok(found) => outcomes.extend(found.into_iter().map(|(hook, fault)| (format!("{hook} in {place}"), fault))),
            Err(error) => drop(outcomes.insert(format!("sockets in {place}"), Some(error.to_string()))),
        }
    }
    if let Some(pod) = network.records().into_iter().next() {
        let fault = through_pod(&pod.netns, pod.ip, arrivals).await.err();
        outcomes.insert("from_pod".to_owned(), fault.map(|error| error.to_string()));
    }
    outcomes
}

/// Runs the client in a process in a cgroup of its own.
async fn dial_from(cgroup: &Path) -> io::Result<Outcomes> {
    std::fs::create_dir_all(cgroup)?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("canary").arg("--cgroup").arg(cgroup).args(["--frontend", &CANARY.to_string()]);
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await??;
    // It may be busy for another moment; the next try finds it there and uses it.
    let _ = std::fs::remove_dir(cgroup);
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(io::Error::other)
}

/// A packet that no socket hook sees, from inside a pod.
async fn through_pod(netns: &Path, pod: Ipv4Addr, mut arrivals: watch::Receiver<Vec<u8>>) -> io::Result<()> {
    let payload = [ONE_WAY, &pod.octets()].concat();
    arrivals.mark_unchanged();
    let (path, packet) = (netns.to_owned(), client::datagram(SocketAddrV4::new(pod, CANARY.port()), CANARY, &payload));
    let sent = tokio::task::spawn_blocking(move || {
        let netns = Netns::open(&path).map_err(io::Error::other)?;
        netns.run(|| client::send_raw(&packet, CANARY)).map_err(io::Error::other)?
    });
    sent.await.map_err(io::Error::other)??;
    let arrived = arrivals.wait_for(|arrived| *arrived == payload);
    match tokio::time::timeout(WAIT, arrived).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other(format!("a packet from the pod at {pod} to {CANARY} did not arrive"))),
    }
}

/// The IPv4-mapped twin of an address.
fn mapped(address: SocketAddrV4) -> SocketAddr {
    SocketAddr::new(address.ip().to_ipv6_mapped().into(), address.port())
}
