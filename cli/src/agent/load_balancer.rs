//! The flags about services dialled from outside.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use xebec_agent::{Forwarding, InvalidXdpMode, LoadBalancer, NodePortAddresses, TableSize, XdpMode};

#[derive(Args)]
pub struct LoadBalancerArgs {
    /// Entries of the table of a Service with the annotation xebec.io/load-balancing-algorithm: maglev, one of 251, 509,
    /// 1021, 2039, 4093, 8191, 16381, 32749, 65521; the same on every node
    #[arg(long, default_value_t = TableSize::default(), value_name = "ENTRIES")]
    maglev_table_size: TableSize,
    /// Have NodePorts only on the node's addresses in these networks, CIDRs separated by commas, or, with the word primary,
    /// on those of its Node object [default: all addresses]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CIDR,...|primary")]
    nodeport_addresses: NodePortAddresses,
    /// How clients outside reach backends on other nodes, of Services without the annotation xebec.io/forwarding-mode; the same
    /// on every node
    #[arg(long, default_value = "snat", value_name = "MODE")]
    forwarding_mode: ForwardingMode,
    /// Balance in the driver of the uplinks, where it can: native, or generic for tests; only of one uplink with
    /// INTERFACE=MODE, which may be given several times
    #[arg(long, value_name = "[INTERFACE=]MODE", value_delimiter = ',')]
    xdp: Vec<Xdp>,
}

impl LoadBalancerArgs {
    pub fn config(self) -> LoadBalancer {
        let mut config = LoadBalancer {
            maglev_table_size: self.maglev_table_size,
            nodeport_addresses: self.nodeport_addresses,
            forwarding: self.forwarding_mode.into(),
            ..LoadBalancer::default()
        };
        for Xdp { interface, mode } in self.xdp {
            match interface {
                Some(interface) => drop(config.xdp_of.insert(interface, mode)),
                None => config.xdp = Some(mode),
            }
        }
        config
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMode {
    /// From the address of the node that they dialled, which gets the answers
    #[default]
    Snat,
    /// From their own address; the backend's node answers them itself (direct server return)
    Dsr,
}

impl From<ForwardingMode> for Forwarding {
    fn from(mode: ForwardingMode) -> Self {
        match mode {
            ForwardingMode::Snat => Self::Snat,
            ForwardingMode::Dsr => Self::Dsr,
        }
    }
}

/// As [`XdpMode`], for a cluster all of whose nodes are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpChoice {
    /// In their drivers
    Native,
    /// After the drivers, for tests: slower than without
    Generic,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Xdp {
    interface: Option<String>,
    mode: XdpMode,
}

impl FromStr for Xdp {
    type Err = InvalidXdpMode;

    fn from_str(text: &str) -> Result<Self, InvalidXdpMode> {
        Ok(match text.split_once('=') {
            Some((interface, mode)) => Self { interface: Some(interface.to_owned()), mode: mode.parse()? },
            None => Self { interface: None, mode: text.parse()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cluster::spec::word;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        load_balancer: LoadBalancerArgs,
    }

    fn config(args: &[&str]) -> Result<LoadBalancer, String> {
        let flags = Flags::try_parse_from(["agent"].iter().chain(args)).map_err(|error| error.to_string())?;
        Ok(flags.load_balancer.config())
    }

    #[test]
    fn node_ports_are_on_all_addresses_or_on_chosen_ones() {
        let chosen = |args: &[&str]| config(args).map(|config| config.nodeport_addresses);
        assert_eq!(chosen(&[]), Ok(NodePortAddresses::In(Vec::new())));
        assert_eq!(chosen(&["--nodeport-addresses", "primary"]), Ok(NodePortAddresses::Primary));
        let networks = ["192.0.2.0/24", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let both = chosen(&["--nodeport-addresses", "192.0.2.0/24,fd00::/8"]);
        assert_eq!(both, Ok(NodePortAddresses::In(networks.to_vec())));
        let error = chosen(&["--nodeport-addresses=10.0.0.0/99"]).expect_err("no network");
        assert!(error.contains("--nodeport-addresses") && error.contains("\"10.0.0.0/99\" is not a CIDR"), "{error}");
    }

    #[test]
    fn clients_are_masqueraded_unless_asked_otherwise() {
        let mode = |args: &[&str]| config(args).map(|config| config.forwarding);
        assert_eq!(mode(&[]), Ok(Forwarding::Snat));
        assert_eq!(mode(&["--forwarding-mode", "snat"]), Ok(Forwarding::Snat));
        assert_eq!(mode(&["--forwarding-mode", "dsr"]), Ok(Forwarding::Dsr));
        let error = mode(&["--forwarding-mode", "DSR"]).expect_err("no mode");
        assert!(error.contains("--forwarding-mode") && error.contains("snat, dsr"), "{error}");
    }

    #[track_caller]
    fn check(text: &str, expected: Option<(Option<&str>, XdpMode)>) {
        let expected = expected.map(|(interface, mode)| Xdp { interface: interface.map(str::to_owned), mode });
        assert_eq!(text.parse::<Xdp>().ok(), expected, "{text:?}");
    }

    #[test]
    fn a_cluster_on_this_machine_knows_the_same_modes() {
        let choices: Vec<String> = XdpChoice::value_variants().iter().map(|choice| word(*choice)).collect();
        assert_eq!(choices, XdpMode::ALL.map(XdpMode::label));
    }

    #[test]
    fn a_mode_is_of_all_uplinks_or_of_one() {
        check("native", Some((None, XdpMode::Native)));
        check("eth1=generic", Some((Some("eth1"), XdpMode::Generic)));
        check("eth1=", None);
        check("eth1", None);
        check("Native", None);
    }
}
