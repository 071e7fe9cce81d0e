//! Services: connect() through one, and programming many.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xebec_datapath::{Backend, Config, Datapath, Frontend, FrontendKey, Routing, Service};
use xebec_netlink::Netns;

use crate::figure::Report;
use crate::netns::{Scratch, close, connect as join, unified};
use crate::packet_filter::{Services, address, flush, load_iptables, load_nft};
use crate::stats::{micros, millis, percentile};

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
const SERVER_PORTS: [u16; 2] = [8080, 8081];
const TCP: u8 = 6;

/// connect() p50 and p99: direct, through iptables, nftables and eBPF, at 1, 1k and 10k services.
pub fn connect(report: &mut Report, smoke: bool) -> Result<()> {
    let (sizes, samples): (&[u32], usize) = if smoke { (&[1, 100], 200) } else { (&[1, 1_000, 10_000], 5_000) };
    let bench = Bench::new()?;
    bench.serve()?;
    for &size in sizes {
        let services = Services::new(size, &bench.backends());
        // The last one: rules that are walked in order cost most there.
        let target = SocketAddrV4::new(address(size - 1), 80);
        let direct = bench.connects(SocketAddrV4::new(SERVER, SERVER_PORTS[0]), samples)?;
        load_iptables(&bench.client.netns, &services.iptables())?;
        let iptables = bench.connects(target, samples)?;
        flush(&bench.client.netns)?;
        load_nft(&bench.client.netns, &services.nft())?;
        let nft = bench.connects(target, samples)?;
        flush(&bench.client.netns)?;
        let datapath = bench.datapath()?;
        datapath.put_services(&ebpf(size, 2, 0))?;
        let direct_again = bench.connects(SocketAddrV4::new(SERVER, SERVER_PORTS[0]), samples)?;
        let ebpf = bench.connects(target, samples)?;
        drop(datapath);
        bench.remove()?;
        for (fraction, name) in [(0.5, "p50"), (0.99, "p99")] {
            let value = |samples: &Vec<Duration>| micros(percentile(&mut samples.clone(), fraction));
            let own = value(&ebpf);
            for (peer, samples) in [("direct", &direct), ("iptables-nft", &iptables), ("nft", &nft)] {
                report.add(format!("connect_{name}_{size}_services"), "us", own, Some((peer, value(samples))));
            }
            let over = own - value(&direct_again);
            report.add(
                format!("connect_over_direct_{name}_{size}_services"),
                "us",
                over,
                Some(("direct", value(&direct_again))),
            );
        }
    }
    Ok(())
}

/// Cold load and one change: eBPF at 10k and 50k services; the peers where they end in reasonable time.
pub fn programming(report: &mut Report, smoke: bool) -> Result<()> {
    let sizes: &[u32] = if smoke { &[100] } else { &[10_000, 50_000] };
    let peer_max = if smoke { 100 } else { 10_000 };
    for &size in sizes {
        let bench = Bench::new()?;
        let datapath = bench.datapath()?;
        let all = ebpf(size, 2, 0);
        let start = Instant::now();
        datapath.put_services(&all)?;
        let cold = start.elapsed();
        let mut changes = Vec::new();
        for round in 0..if smoke { 10 } else { 1_000 } {
            let one = &ebpf(size, 2, round + 1)[(round % size) as usize];
            let start = Instant::now();
            datapath.put_service(one)?;
            changes.push(start.elapsed());
        }
        drop(datapath);
        bench.remove()?;
        let mut peer = None;
        if size <= peer_max {
            let services = Services::new(size, &bench.backends());
            let start = Instant::now();
            load_nft(&bench.client.netns, &services.nft())?;
            let nft = start.elapsed();
            let start = Instant::now();
            load_nft(&bench.client.netns, &services.nft_service(size as usize, address(size)))?;
            peer = Some((nft, start.elapsed()));
            flush(&bench.client.netns)?;
            let start = Instant::now();
            load_iptables(&bench.client.netns, &services.iptables())?;
            let iptables = start.elapsed();
            flush(&bench.client.netns)?;
            report.add(
                format!("cold_load_{size}_services"),
                "ms",
                millis(cold),
                Some(("iptables-nft", millis(iptables))),
            );
        }
        let nft = peer.map(|(cold, _)| ("nft", millis(cold)));
        report.add(format!("cold_load_{size}_services"), "ms", millis(cold), nft);
        let nft = peer.map(|(_, change)| ("nft", millis(change)));
        report.add(format!("change_p50_{size}_services"), "ms", millis(percentile(&mut changes, 0.5)), nft);
        report.add(format!("change_p99_{size}_services"), "ms", millis(percentile(&mut changes, 0.99)), nft);
    }
    Ok(())
}

/// The same services for the datapath; `round` varies the backends, so that a change is one.
fn ebpf(count: u32, backends: u16, round: u32) -> Vec<Service> {
    let port = |slot: u16| SERVER_PORTS[usize::from(slot) % 2];
    let extra = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 250, 0, 0)) + round);
    (0..count)
        .map(|n| Service {
            frontends: vec![Frontend { key: FrontendKey::cluster_ip(address(n), 80, TCP), flags: 0 }],
            backends: (0..backends)
                .map(|slot| Backend {
                    addr: if round == 0 { SERVER } else { extra },
                    port: port(slot),
                    local: false,
                    terminating: false,
                })
                .collect(),
            ..Service::default()
        })
        .collect()
}

/// A client namespace, a server namespace, a cgroup and a bpffs for one run.
struct Bench {
    client: Scratch,
    server: Scratch,
    cgroup: PathBuf,
    bpffs: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, server) = (Scratch::new()?, Scratch::new()?);
        runtime.block_on(join((&client, CLIENT), (&server, SERVER)))?;
        runtime.block_on(default_route(&client))?;
        let root = unified().context("cgroup2 is not mounted")?;
        let cgroup = root.join(format!("xebec-bench-{}", std::process::id()));
        std::fs::create_dir_all(&cgroup)?;
        let bpffs = tempfile::tempdir()?;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("bpffs"), bpffs.path(), Some("bpf"), flags, None::<&str>).context("mount a bpffs")?;
        // This process is the client: the programs see its connect().
        std::fs::write(cgroup.join("cgroup.procs"), "0").context("join the cgroup")?;
        Ok(Self { client, server, cgroup, bpffs, runtime })
    }

    fn backends(&self) -> Vec<(Ipv4Addr, u16)> {
        SERVER_PORTS.iter().map(|port| (SERVER, *port)).collect()
    }

    fn datapath(&self) -> Result<Datapath> {
        let uplink = self.runtime.block_on(async { anyhow::Ok(self.client.handle()?.link("eth0").await?.index) })?;
        let config = Config {
            node_name: "bench".to_owned(),
            bpffs: self.bpffs.path().to_path_buf(),
            cgroup_pods: self.cgroup.clone(),
            cgroup_node: self.cgroup.clone(),
            node_ip: CLIENT,
            pod_cidr: "10.244.0.0/24".parse()?,
            cluster_cidr: "10.244.0.0/16".parse()?,
            service_cidr: "10.96.0.0/12".parse()?,
            routing: Routing::Native,
            uplinks: vec![uplink],
            gateway: Ipv4Addr::new(10, 244, 0, 1),
            netns_cookie: 0,
            snat_ports: Config::SNAT_PORTS,
        };
        Ok(self.client.netns.run(|| Datapath::open(config))??)
    }

    fn remove(&self) -> Result<()> {
        Ok(Datapath::remove(self.bpffs.path(), "bench")?)
    }

    /// Listeners that accept and close at once; they end with the process.
    fn serve(&self) -> Result<()> {
        for port in SERVER_PORTS {
            let listener = self.server.netns.run(|| TcpListener::bind((SERVER, port)))??;
            std::thread::spawn(move || listener.incoming().for_each(drop));
        }
        Ok(())
    }

    fn connects(&self, target: SocketAddrV4, samples: usize) -> Result<Vec<Duration>> {
        connects(&self.client.netns, target, samples)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let root = unified().unwrap_or_default();
        let left = [
            std::fs::write(root.join("cgroup.procs"), "0"),
            std::fs::remove_dir(&self.cgroup),
            nix::mount::umount(self.bpffs.path()).map_err(Into::into),
        ];
        for error in left.into_iter().filter_map(Result::err) {
            eprintln!("clean up: {error}");
        }
    }
}

async fn default_route(client: &Scratch) -> Result<()> {
    let handle = client.handle()?;
    let index = handle.link("eth0").await?.index;
    let route = xebec_netlink::Route::default4().via(SERVER.into()).dev(index);
    Ok(handle.route_add(&route).await?)
}

fn connects(netns: &Netns, target: SocketAddrV4, samples: usize) -> Result<Vec<Duration>> {
    let times = netns.run(|| -> std::io::Result<Vec<Duration>> {
        for _ in 0..samples / 10 {
            close(TcpStream::connect(target)?)?;
        }
        (0..samples)
            .map(|_| {
                let start = Instant::now();
                let stream = TcpStream::connect(target)?;
                let time = start.elapsed();
                close(stream)?;
                Ok(time)
            })
            .collect()
    })?;
    times.with_context(|| format!("connect to {target}"))
}
