//! Packets as the datapath's programs see them, and questions to the DNS server.

use std::sync::LazyLock;

use xebec_abi::{Addr4, Addr6};
use xebec_dns::wire::{self, Parsed, Transport};
use xebec_dns::{Endpoint, Kind, Port, ServiceRecord, Zone};
use xebec_logic::model::{Bytes, Model, Node};
use xebec_logic::{Family, Room, header, icmp, l2, netdev, overlay, pod, reject, xdp};

pub fn seeds() -> Vec<Vec<u8>> {
    let ethernet = |kind: [u8; 2]| [&[2, 0, 0, 0, 1, 3, 2, 0, 0, 0, 1, 2][..], &kind].concat();
    let ipv4 = |proto: u8, payload: &[u8]| {
        let length = (20 + payload.len() as u16).to_be_bytes();
        let head = [0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, proto, 0, 0, 10, 244, 1, 2, 10, 96, 0, 10];
        [&ethernet([8, 0]), &head[..], payload].concat()
    };
    let tcp = [0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let udp = [0x0f, 0xa0, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let sctp = [0x8e, 0x3c, 0, 80, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20, 0, 0, 0, 1];
    let quoted = ipv4(6, &tcp)[14..].to_vec();
    let unreachable = [&[3, 4, 0, 0, 0, 0, 5, 0xdc][..], &quoted].concat();
    let arp = [
        &ethernet([8, 6])[..],
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 2, 10, 244, 1, 2, 0, 0, 0, 0, 0, 0, 10, 244, 1, 1],
    ]
    .concat();
    let mut ipv6 = [&ethernet([0x86, 0xdd])[..], &[0x60, 0, 0, 0, 0, 20, 6, 64]].concat();
    ipv6.extend([&[0xfd; 16][..], &[0xfc; 16], &tcp].concat());
    let mut solicitation = [&ethernet([0x86, 0xdd])[..], &[0x60, 0, 0, 0, 0, 32, 58, 255]].concat();
    solicitation.extend(
        [&[0xfd; 16][..], &[0xfc; 16], &[135, 0, 0, 0, 0, 0, 0, 0], &[0xfc; 16], &[1, 1, 2, 0, 0, 0, 1, 2]].concat(),
    );
    vec![
        ipv4(6, &tcp),
        ipv4(17, &udp),
        ipv4(132, &sctp),
        ipv4(1, &unreachable),
        ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1]),
        arp,
        ipv6,
        solicitation,
    ]
}

/// Every program answers, and a packet that is delivered has not become another's.
pub fn packet(bytes: &[u8]) {
    judge::<Addr4>(bytes, Node::<Addr4>::default());
    judge::<Addr6>(bytes, Node::<Addr6>::default());
    let model = Model::<Addr4>::default();
    let packet = || Bytes(bytes.to_vec());
    _ = l2::arp(&mut packet(), &model, 2);
    _ = l2::neighbour(&mut packet(), &Model::<Addr6>::default(), 2);
}

fn judge<A: Family>(bytes: &[u8], node: Node<A>)
where
    Node<A>: Default,
{
    let model = Model::<A> { node, flows_max: Some(4), ..Model::default() };
    let packet = || Bytes(bytes.to_vec());
    // Twice, so that the second meets what the first left.
    for _ in 0..2 {
        _ = pod::from_pod(&mut packet(), &model, 2).is_ok();
        _ = pod::to_pod(&mut packet(), &model).is_ok();
        _ = netdev::from_netdev(&mut packet(), &model).is_ok();
        _ = netdev::to_netdev(&mut packet(), &model).is_ok();
        _ = overlay::from_overlay(&mut packet(), &model, overlay::behind(None)).is_ok();
        _ = overlay::to_overlay(&mut packet(), &model).is_ok();
    }
    let (mut balanced, mut room) = (packet(), Room::default());
    if xdp::decide(&mut balanced, &model, &mut room).is_some() {
        _ = xdp::rewrite(&mut balanced, &model, &mut room, [2; 12]);
    }
    let (mut rejected, mut room) = (packet(), Room::<A>::default());
    let Ok(header::Frame::Ip) = header::frame(&mut rejected, &mut room.ip) else { return };
    _ = icmp::quoted(&mut rejected, &room.ip, &mut icmp::Quoted::default());
    if header::transport(&mut rejected, &model, &room.ip, &mut room.transport).is_ok() {
        _ = reject::reply(&mut rejected, &model, &room, xebec_abi::DropReason::NoBackend).is_ok();
    }
}

pub fn dns_seeds() -> Vec<Vec<u8>> {
    let name = b"\x03web\x07default\x03svc\x07cluster\x05local\0";
    let question = |kind: u8| [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, kind, 0, 1]].concat();
    let edns = {
        let mut message = question(28);
        message[11] = 1;
        message.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        message
    };
    // A name that points at itself.
    let pointed = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat();
    // _http._tcp.web.default.svc.cluster.local SRV, and an address's name.
    let port = [&question(33)[..12], b"\x05_http\x04_tcp", &question(33)[12..]].concat();
    let reverse = [&question(12)[..12], b"\x011\x010\x0296\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01"].concat();
    vec![question(1), question(33), edns, pointed, port, reverse]
}

fn zone() -> Zone {
    let port = || Port { name: "http".to_owned(), protocol: "tcp".to_owned(), number: 80 };
    let endpoint = |n: u8| Endpoint {
        addr: std::net::Ipv4Addr::new(10, 244, 0, n).into(),
        hostname: n.is_multiple_of(2).then(|| format!("host-{n}")),
        ports: vec![port()],
    };
    let record = |name: &str, kind: Kind| ServiceRecord {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        kind,
        ports: vec![port()],
        endpoints: (1..90).map(endpoint).collect(),
    };
    let addresses = vec![[10, 96, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    let mut zone = Zone::default();
    zone.replace_all([
        record("web", Kind::ClusterIp(addresses)),
        record("db", Kind::Headless),
        record("out", Kind::ExternalName("a.example.com".to_owned())),
    ]);
    zone.set_known();
    zone
}

/// A question is answered within what its client takes.
pub fn dns(bytes: &[u8]) {
    static ZONE: LazyLock<Zone> = LazyLock::new(zone);
    let (Parsed::Query(message), Ok(domain)) = (wire::parse(bytes), wire::domain("cluster.local")) else { return };
    for query in &message.queries {
        let own = Some([10, 96, 0, 10].into());
        let answer = xebec_dns::answer(&ZONE, &domain, own, query.name(), query.query_type(), 1);
        for transport in [Transport::Udp, Transport::Tcp] {
            let encoded = answer.as_ref().and_then(|answer| wire::encode(&message, answer, true, transport).ok());
            let limit = usize::from(wire::limit(&message, transport));
            assert!(
                encoded.as_ref().is_none_or(|encoded| encoded.len() <= limit),
                "{} of {limit}",
                encoded.map_or(0, |e| e.len())
            );
        }
    }
}

/// Of a name's addresses, behind an alias; a denial; one that is cut off; one with a name that points at itself.
pub fn dns_answer_seeds() -> Vec<Vec<u8>> {
    let question = b"\x01a\x07example\x03com\0\0\x01\0\x01";
    let head = |flags: [u8; 2], counts: [u8; 3]| {
        let [answers, authorities, additionals] = counts;
        [&[0x12, 0x34, flags[0], flags[1], 0, 1, 0, answers, 0, authorities, 0, additionals], &question[..]].concat()
    };
    let record = |kind: u8, data: &[u8]| {
        let length = data.len() as u8;
        [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length][..], data].concat()
    };
    let addresses: Vec<u8> = (0..40).flat_map(|last| record(1, &[192, 0, 2, last])).collect();
    let soa = record(6, &[&[0xc0, 12, 0xc0, 12][..], &[0, 0, 0, 9].repeat(5)].concat());
    let opt = [0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0];
    vec![
        [&head([0x81, 0x80], [41, 0, 1])[..], &record(5, &[1, b'b', 0xc0, 14]), &addresses, &opt].concat(),
        [&head([0x81, 0x83], [0, 1, 0])[..], &soa].concat(),
        head([0x83, 0x80], [0, 0, 0]),
        [&head([0x81, 0x80], [1, 0, 0])[..], &record(5, &[0xc0, 41])].concat(),
    ]
}

/// What an upstream says is passed on within what the client takes.
pub fn dns_answer(bytes: &[u8]) {
    for (encoded, limit) in xebec_dns::decoders::upstream(bytes) {
        assert!(encoded.len() <= usize::from(limit), "{} of {limit}", encoded.len());
    }
}
