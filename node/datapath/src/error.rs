use std::{io, path::PathBuf};

use xebec_abi::limits;

/// What went wrong with which object; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the eBPF object was not built into this binary (built with XEBEC_BPF=skip)")]
    NotBuilt,
    #[error("create directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not on a bpf filesystem: mount one with `mount -t bpf bpf {path}`")]
    NotBpffs { path: PathBuf },
    #[error(
        "lift RLIMIT_MEMLOCK, against which this kernel counts eBPF maps: run as root, or set LimitMEMLOCK=infinity"
    )]
    Memlock(#[source] io::Error),
    #[error("load the eBPF object")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("load program {program}")]
    Program {
        program: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the eBPF object has no program {program}")]
    NoProgram { program: &'static str },
    #[error("self-test of {program}: {reason}")]
    SelfTest { program: &'static str, reason: String },
    #[error("{operation} map {map}")]
    Map {
        operation: &'static str,
        map: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("map {map} is full: its limit is {limit} entries{}", crate::capacity::advice(map))]
    Full { map: &'static str, limit: u32 },
    #[error(
        "pinned map {map} has keys of {key} and values of {value} bytes, this version's are \
         {expected_key} and {expected_value}"
    )]
    Layout { map: &'static str, key: u32, value: u32, expected_key: usize, expected_value: usize },
    #[error("{operation} {program} at {target}")]
    Link {
        operation: &'static str,
        program: &'static str,
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("{operation} {path}")]
    Pin {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{operation} {path}")]
    Sysctl {
        operation: &'static str,
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("VXLAN network identifier {vni}: those from 4194304 on are for packets to services")]
    Vni { vni: u32 },
    #[error("interface with index {ifindex}")]
    Interface {
        ifindex: u32,
        #[source]
        source: io::Error,
    },
    #[error("the configuration of node {node} has neither IPv4 nor IPv6: give it a network of one of them")]
    NoFamily { node: String },
    #[error(
        "pods of {cidr} are not reached over {node}: a tunnel needs the node's IPv4 address, or its IPv6 one where pods have no IPv4, a route one of the pods' family"
    )]
    NodeFamily { cidr: ipnet::IpNet, node: std::net::IpAddr },
    #[error("{addr} in a service port of the other family: give each family a service port of its own")]
    MixedFamilies { addr: std::net::IpAddr },
    #[error("a service port needs a frontend")]
    NoFrontend,
    #[error("a service port has {count} backends; the limit is {}", limits::SERVICE_BACKENDS_MAX)]
    TooManyBackends { count: usize },
    #[error("{count} pods on this node; the limit is {}", limits::PODS_MAX)]
    TooManyPods { count: usize },
}

/// An error with its causes, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
