//! The peers: the same services as kube-proxy would program them with iptables and with nftables.
//!
//! iptables: a rule per service in KUBE-SERVICES, then a chain per service and per endpoint
//! (Kubernetes, pkg/proxy/iptables). nftables: one verdict map over address, protocol and port
//! (pkg/proxy/nftables).

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use xebec_netlink::Netns;

/// A service port with one frontend; all of a run share the backends.
pub struct Services {
    pub frontends: Vec<Ipv4Addr>,
    pub port: u16,
    pub backends: Vec<(Ipv4Addr, u16)>,
}

/// The n-th service address: 10.96.0.1, 10.96.0.2 and so on.
pub fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + n)
}

impl Services {
    pub fn new(count: u32, backends: &[(Ipv4Addr, u16)]) -> Self {
        Self { frontends: (0..count).map(address).collect(), port: 80, backends: backends.to_vec() }
    }

    pub fn iptables(&self) -> String {
        let mut rules = String::from("*nat\n:KUBE-SERVICES - [0:0]\n");
        for n in 0..self.frontends.len() {
            let _ = writeln!(rules, ":KUBE-SVC-{n} - [0:0]");
            for slot in 0..self.backends.len() {
                let _ = writeln!(rules, ":KUBE-SEP-{n}-{slot} - [0:0]");
            }
        }
        rules += "-A OUTPUT -j KUBE-SERVICES\n-A PREROUTING -j KUBE-SERVICES\n";
        for (n, ip) in self.frontends.iter().enumerate() {
            let port = self.port;
            let _ = writeln!(rules, "-A KUBE-SERVICES -d {ip}/32 -p tcp -m tcp --dport {port} -j KUBE-SVC-{n}");
            for (slot, (backend, port)) in self.backends.iter().enumerate() {
                let left = self.backends.len() - slot;
                let random = match left {
                    1 => String::new(),
                    _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
                };
                let _ = writeln!(rules, "-A KUBE-SVC-{n} {random}-j KUBE-SEP-{n}-{slot}");
                let _ =
                    writeln!(rules, "-A KUBE-SEP-{n}-{slot} -p tcp -m tcp -j DNAT --to-destination {backend}:{port}");
            }
        }
        rules + "COMMIT\n"
    }

    pub fn nft(&self) -> String {
        let mut rules = String::from(
            "table ip kube-proxy {\n map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }\n",
        );
        rules += " chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n";
        rules += " chain nat-output { type nat hook output priority -100; jump services; }\n";
        rules += " chain nat-prerouting { type nat hook prerouting priority -100; jump services; }\n}\n";
        for (n, ip) in self.frontends.iter().enumerate() {
            rules += &self.nft_service(n, *ip);
        }
        rules
    }

    /// What one more service adds.
    pub fn nft_service(&self, n: usize, ip: Ipv4Addr) -> String {
        let mut rules = format!("add chain ip kube-proxy service-{n}\n");
        let mut choice = String::new();
        for (slot, (backend, port)) in self.backends.iter().enumerate() {
            let _ = writeln!(rules, "add chain ip kube-proxy endpoint-{n}-{slot}");
            let _ =
                writeln!(rules, "add rule ip kube-proxy endpoint-{n}-{slot} meta l4proto tcp dnat to {backend}:{port}");
            let _ = write!(choice, "{slot} : goto endpoint-{n}-{slot}, ");
        }
        let count = self.backends.len();
        let choice = choice.trim_end_matches(", ");
        let _ = writeln!(rules, "add rule ip kube-proxy service-{n} numgen random mod {count} vmap {{ {choice} }}");
        let port = self.port;
        let _ = writeln!(rules, "add element ip kube-proxy service-ips {{ {ip} . tcp . {port} : goto service-{n} }}");
        rules
    }
}

/// Feeds `input` to a program inside a namespace.
pub fn feed(netns: &Netns, program: &str, args: &[&str], input: &str) -> Result<()> {
    let net = format!("--net={}", netns.path().display());
    let mut child = Command::new("nsenter")
        .args([net.as_str(), program])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{program} {} ended with {status}", args.join(" "));
    }
    Ok(())
}

/// Loads rules with `iptables-nft-restore`.
pub fn load_iptables(netns: &Netns, rules: &str) -> Result<()> {
    feed(netns, "iptables-nft-restore", &["--noflush"], rules)
}

/// Loads rules with `nft`.
pub fn load_nft(netns: &Netns, rules: &str) -> Result<()> {
    feed(netns, "nft", &["-f", "-"], rules)
}

/// Forgets everything.
pub fn flush(netns: &Netns) -> Result<()> {
    feed(netns, "nft", &["flush", "ruleset"], "")
}
