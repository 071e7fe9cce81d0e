//! What else the kernel can proxy services with.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use xebec_netlink::Netns;

use crate::netns::Scratch;
use crate::packet_filter::{Services, address};
use crate::pair::backends;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Iptables,
    Nft,
    Ipvs,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Iptables, Self::Nft, Self::Ipvs];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables-nft",
            Self::Nft => "nft",
            Self::Ipvs => "IPVS",
        }
    }

    /// Those that work on this host, and why the others do not, a line each.
    ///
    /// # Errors
    /// When a network namespace to try them in cannot be made.
    pub fn available() -> Result<(Vec<Self>, Vec<String>)> {
        let (mut peers, mut left_out) = (Vec::new(), Vec::new());
        for peer in Self::ALL {
            match peer.missing()? {
                None => peers.push(peer),
                Some(reason) => left_out.push(format!("{} is left out: {reason}", peer.name())),
            }
        }
        Ok((peers, left_out))
    }

    fn missing(self) -> Result<Option<String>> {
        // Registered with the first namespace that has it (net/netfilter/ipvs/ip_vs_ctl.c); loading a module is the
        // user's decision.
        if self == Self::Ipvs && !Path::new("/proc/net/ip_vs").exists() {
            return Ok(Some("the kernel has no IPVS (CONFIG_IP_VS, module ip_vs)".to_owned()));
        }
        let scratch = Scratch::new()?;
        let one = Services { count: 1, backends: backends() };
        Ok(self.load(&scratch.netns, &one).err().map(|error| format!("{error:#}")))
    }

    /// Programs all services.
    ///
    /// # Errors
    /// What the tool says.
    pub fn load(self, netns: &Netns, services: &Services) -> Result<()> {
        match self {
            Self::Iptables => feed(netns, "iptables-nft-restore", &["--noflush"], &services.iptables()),
            Self::Nft => feed(netns, "nft", &["-f", "-"], &services.nft()),
            Self::Ipvs => {
                feed(netns, "ip", &["-batch", "-"], "link add kube-ipvs0 type dummy\n")?;
                ipvs(netns, services, 0..services.count)
            }
        }
    }

    /// Adds service `n` to those that are loaded.
    ///
    /// # Errors
    /// What the tool says.
    pub fn add(self, netns: &Netns, services: &Services, n: u32) -> Result<()> {
        match self {
            Self::Iptables => feed(netns, "iptables-nft-restore", &["--noflush"], &services.iptables_service(n)),
            Self::Nft => feed(netns, "nft", &["-f", "-"], &services.nft_service(n)),
            Self::Ipvs => ipvs(netns, services, n..n + 1),
        }
    }
}

/// IPVS translates what is addressed to the node itself: every service address is one of a dummy device's.
fn ipvs(netns: &Netns, services: &Services, which: std::ops::Range<u32>) -> Result<()> {
    let (mut addresses, mut rules) = (String::new(), String::new());
    for n in which {
        // Writing to a string cannot fail.
        let _ = writeln!(addresses, "address add {}/32 dev kube-ipvs0", address(n));
        rules += &services.ipvs_service(n);
    }
    feed(netns, "ip", &["-batch", "-"], &addresses)?;
    feed(netns, "ipvsadm", &["--restore"], &rules)
}

/// Runs a program inside a namespace, with `input` to read.
///
/// # Errors
/// When it cannot be started, or fails: with the last line of what it says.
pub fn feed(netns: &Netns, program: &str, args: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A child is born in the namespace of the thread that makes it.
    let child = netns.run(|| command.spawn())?;
    let mut child = child.with_context(|| format!("start {program}: is it installed?"))?;
    // It may end before it has read everything; then its status says more than the broken pipe.
    let fed = child.stdin.take().context("no pipe")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_owned();
        bail!("{program} ended with {}: {last}", output.status);
    }
    fed.with_context(|| format!("write to {program}"))
}
