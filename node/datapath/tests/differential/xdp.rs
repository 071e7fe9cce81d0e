//! `xdp_netdev` behind a device whose FIB knows the way: what it does to a packet depends on the next hop too.

use std::process::Command;

use aya::{
    Ebpf,
    programs::{Program, TestRun, TestRunOptions, Xdp},
};
use xebec_abi::DropReason;
use xebec_logic::{
    Room,
    model::{Bytes, Model, Node},
    xdp::{self, Hop, Macs},
};
use xebec_netlink::Netns;

use crate::{family::Tested, worlds::Worlds};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const MTU: u16 = 1_500;
const OWN: [u8; 6] = [2, 0, 0, 0, 3, 11];
/// By their addresses' last byte: the node's gateway, and other nodes. 172.30.0.14 is known to nobody.
const NEIGHBOURS: [u8; 3] = [1, 12, 13];

/// A network namespace with an uplink that has a route to everywhere.
pub struct Uplink {
    name: String,
    netns: Netns,
    ifindex: u32,
}

impl Uplink {
    pub fn new() -> Self {
        let name = format!("xbtest-diff-{}-{:?}", std::process::id(), std::thread::current().id());
        let name = name.replace(['(', ')'], "");
        let netns = Netns::create(&name).expect("a network namespace (this test needs root)");
        let mut uplink = Self { name, netns, ifindex: 0 };
        let prepare = || {
            let own = mac(OWN);
            ip(&format!("link add eth0 address {own} mtu {MTU} type veth peer name peer"));
            ip("link set peer up");
            ip("link set lo up");
            ip("link set eth0 up");
            ip("address add 172.30.0.11/24 dev eth0");
            ip("route add default via 172.30.0.1");
            for last in NEIGHBOURS {
                let mac = mac(neighbour(last));
                ip(&format!("neighbour replace 172.30.0.{last} lladdr {mac} dev eth0 nud permanent"));
            }
            ip("address add 2001:db8::11/64 dev eth0 nodad");
            ip("route add default via 2001:db8::1");
            for last in NEIGHBOURS {
                let mac = mac(neighbour(last));
                ip(&format!("neighbour replace 2001:db8::{last} lladdr {mac} dev eth0 nud permanent"));
            }
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            nix::net::if_::if_nametoindex("eth0").unwrap()
        };
        uplink.ifindex = uplink.netns.run(prepare).unwrap();
        uplink
    }

    /// Runs one packet through both: the kernel's action.
    #[track_caller]
    pub fn step<A: Tested>(&self, worlds: &mut Worlds<A>, packet: &[u8], context: &str) -> i32
    where
        Node<A>: Default,
    {
        let (action, mut out) = self.run(&worlds.ebpf, packet, context);
        let (expected, dropped) = model(packet, &worlds.model);
        if let Some(reason) = dropped {
            *worlds.drops.entry(reason).or_default() += 1;
        }
        out.truncate(expected.1.len());
        assert_eq!((action, out), expected, "{context}: {packet:02x?}");
        action.cast_signed()
    }

    /// The kernel's action and bytes.
    fn run(&self, ebpf: &Ebpf, packet: &[u8], context: &str) -> (u32, Vec<u8>) {
        let Some(Program::Xdp(program)) = ebpf.program("xdp_netdev") else { panic!("no program") };
        let mut out = vec![0; packet.len() + xdp::OVERLAY6_BYTES];
        let run = || self.test_run(program, packet, &mut out);
        let action = self.netns.run(run).unwrap().unwrap_or_else(|error| panic!("{context}: {error} {packet:02x?}"));
        (action, out)
    }

    fn test_run(&self, program: &Xdp, packet: &[u8], out: &mut [u8]) -> Result<u32, aya::programs::ProgramError> {
        // struct xdp_md: start, end, metadata, ingress device, its queue, egress device.
        let context: Vec<u8> =
            [0, packet.len() as u32, 0, self.ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(out), ctx_in: Some(&context), ..Default::default() };
        program.test_run(options).map(|result| result.return_value)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = Netns::delete(&self.name);
    }
}

/// The model's action and bytes, and why it drops the packet.
fn model<A: Tested>(packet: &[u8], model: &Model<A>) -> ((u32, Vec<u8>), Option<DropReason>)
where
    Node<A>: Default,
{
    let mut bytes = Bytes(packet.to_vec());
    let sent = send(&mut bytes, model);
    let action = match sent {
        None => PASS,
        Some(Ok(())) => TX,
        Some(Err(_)) => DROP,
    };
    ((action, bytes.0), sent.and_then(Result::err))
}

fn send<A: Tested>(packet: &mut Bytes, model: &Model<A>) -> Option<Result<(), DropReason>>
where
    Node<A>: Default,
{
    let mut room = Room::default();
    xdp::decide(packet, model, &mut room)?;
    let macs = next_hop(&room.hop)?;
    Some(xdp::rewrite(packet, model, &mut room, macs))
}

/// What the namespace's FIB answers.
fn next_hop<A: Tested>(hop: &Hop<A>) -> Option<Macs>
where
    Node<A>: Default,
{
    let last = A::next_hop(hop.dst)?;
    if hop.bytes > MTU || !NEIGHBOURS.contains(&last) {
        return None;
    }
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (neighbour(last), OWN);
    Some([a, b, c, d, e, f, g, h, i, j, k, l])
}

fn neighbour(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 4, last]
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
