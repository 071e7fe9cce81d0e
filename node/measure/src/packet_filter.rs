//! The same services as kube-proxy would program them with iptables, nftables and IPVS, as their tools read them.
//!
//! iptables: a rule per service in KUBE-SERVICES, then a chain per service and per endpoint
//! (Kubernetes, pkg/proxy/iptables). nftables: one verdict map over address, protocol and port
//! (pkg/proxy/nftables). IPVS: a virtual server per service (pkg/proxy/ipvs).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The port that every service is dialled at.
pub const SERVICE_PORT: u16 = 80;

/// Services with one frontend each; all of a run share the backends.
pub struct Services {
    pub count: u32,
    pub backends: Vec<(Ipv4Addr, u16)>,
}

/// The n-th service address: 10.96.0.1, 10.96.0.2 and so on.
pub fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + n)
}

// Writing to a string cannot fail: so for every `let _ = write!` below.
impl Services {
    pub fn iptables(&self) -> String {
        let mut rules = String::from("*nat\n:KUBE-SERVICES - [0:0]\n");
        (0..self.count).for_each(|n| self.declare_chains(n, &mut rules));
        rules += "-A OUTPUT -j KUBE-SERVICES\n-A PREROUTING -j KUBE-SERVICES\n";
        (0..self.count).for_each(|n| self.append_rules(n, &mut rules));
        rules + "COMMIT\n"
    }

    /// What service `n` adds.
    pub fn iptables_service(&self, n: u32) -> String {
        let mut rules = String::from("*nat\n");
        self.declare_chains(n, &mut rules);
        self.append_rules(n, &mut rules);
        rules + "COMMIT\n"
    }

    fn declare_chains(&self, n: u32, rules: &mut String) {
        let _ = writeln!(rules, ":KUBE-SVC-{n} - [0:0]");
        for slot in 0..self.backends.len() {
            let _ = writeln!(rules, ":KUBE-SEP-{n}-{slot} - [0:0]");
        }
    }

    fn append_rules(&self, n: u32, rules: &mut String) {
        let ip = address(n);
        let _ = writeln!(rules, "-A KUBE-SERVICES -d {ip}/32 -p tcp -m tcp --dport {SERVICE_PORT} -j KUBE-SVC-{n}");
        for (slot, (backend, port)) in self.backends.iter().enumerate() {
            let left = self.backends.len() - slot;
            let random = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            let _ = writeln!(rules, "-A KUBE-SVC-{n} {random}-j KUBE-SEP-{n}-{slot}");
            let _ = writeln!(rules, "-A KUBE-SEP-{n}-{slot} -p tcp -m tcp -j DNAT --to-destination {backend}:{port}");
        }
    }

    pub fn nft(&self) -> String {
        let mut rules = String::from(
            "table ip kube-proxy {\n map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }\n",
        );
        rules += " chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n";
        rules += " chain nat-output { type nat hook output priority -100; jump services; }\n";
        rules += " chain nat-prerouting { type nat hook prerouting priority -100; jump services; }\n}\n";
        (0..self.count).for_each(|n| rules += &self.nft_service(n));
        rules
    }

    /// What service `n` adds.
    pub fn nft_service(&self, n: u32) -> String {
        let mut rules = format!("add chain ip kube-proxy service-{n}\n");
        let mut choice = String::new();
        for (slot, (backend, port)) in self.backends.iter().enumerate() {
            let _ = writeln!(rules, "add chain ip kube-proxy endpoint-{n}-{slot}");
            let _ =
                writeln!(rules, "add rule ip kube-proxy endpoint-{n}-{slot} meta l4proto tcp dnat to {backend}:{port}");
            let _ = write!(choice, "{slot} : goto endpoint-{n}-{slot}, ");
        }
        let (count, ip) = (self.backends.len(), address(n));
        let choice = choice.trim_end_matches(", ");
        let _ = writeln!(rules, "add rule ip kube-proxy service-{n} numgen random mod {count} vmap {{ {choice} }}");
        let _ = writeln!(
            rules,
            "add element ip kube-proxy service-ips {{ {ip} . tcp . {SERVICE_PORT} : goto service-{n} }}"
        );
        rules
    }

    /// What `ipvsadm --restore` reads for service `n`.
    pub fn ipvs_service(&self, n: u32) -> String {
        let ip = address(n);
        let mut rules = format!("-A -t {ip}:{SERVICE_PORT} -s rr\n");
        for (backend, port) in &self.backends {
            let _ = writeln!(rules, "-a -t {ip}:{SERVICE_PORT} -r {backend}:{port} -m");
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(count: u32) -> Services {
        let server = Ipv4Addr::new(172, 31, 0, 2);
        Services { count, backends: vec![(server, 8080), (server, 8081)] }
    }

    #[test]
    fn services_that_are_added_one_by_one_are_those_that_are_loaded_at_once() {
        let rules = |text: &str| {
            let mut lines: Vec<_> = text.lines().filter(|line| line.contains("KUBE-S")).map(str::to_owned).collect();
            lines.retain(|line| !line.starts_with(":KUBE-SERVICES") && !line.ends_with("-j KUBE-SERVICES"));
            lines.sort();
            lines
        };
        let services = services(3);
        let one_by_one: String = (0..3).map(|n| services.iptables_service(n)).collect();
        assert_eq!(rules(&one_by_one), rules(&services.iptables()));
        let one_by_one: String = (0..3).map(|n| services.nft_service(n)).collect();
        assert!(services.nft().ends_with(&one_by_one));
    }

    #[test]
    fn the_first_of_two_endpoints_gets_half_and_the_second_the_rest() {
        let rules = services(1).iptables();
        assert!(rules.contains("-A KUBE-SVC-0 -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-0-0"));
        assert!(rules.contains("-A KUBE-SVC-0 -j KUBE-SEP-0-1"));
    }
}
