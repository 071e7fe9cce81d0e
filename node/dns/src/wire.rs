//! Messages as bytes: limits, truncation, EDNS.

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::{Answer, Error, Result};

/// Without EDNS a UDP answer has at most 512 bytes (RFC 1035, 4.2.1).
const UDP_PLAIN: u16 = 512;

/// The largest UDP answer that we send: it fits every path of Ethernet's MTU, IPv6 too (DNS flag day 2020).
const UDP_MAX: u16 = 1232;

/// An OPT record without options: root name, type, class, TTL, length (RFC 6891, 6.1.2).
const OPT_BYTES: u16 = 11;

/// Name compression reaches the first 16 KiB only, but the length prefix of TCP allows more.
const TCP_MAX: u16 = u16::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

pub fn domain(domain: &str) -> Result<Name> {
    let name = Name::from_ascii(domain.trim_end_matches('.'));
    let mut name = name.map_err(|source| Error::Domain { domain: domain.to_owned(), source })?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

#[derive(Debug)]
pub enum Parsed {
    Query(Message),
    /// Answered as it is.
    Refused(Vec<u8>),
    /// Not a question: an answer would start a loop.
    Ignored,
}

pub fn parse(bytes: &[u8]) -> Parsed {
    // The header has 12 bytes; the highest bit of the third says answer.
    if bytes.len() < 12 || bytes.get(2).is_none_or(|flags| flags & 0x80 != 0) {
        return Parsed::Ignored;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return Parsed::Refused(header_only(bytes, ResponseCode::FormErr));
    };
    let refuse = |code| {
        let bytes = encode(&message, &Answer::code(code), false, Transport::Udp);
        bytes.map_or(Parsed::Ignored, Parsed::Refused)
    };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if message.version() > 0 {
        return refuse(ResponseCode::BADVERS);
    }
    match message.queries.as_slice() {
        [query] if query.query_class() == DNSClass::IN || query.query_class() == DNSClass::ANY => {
            Parsed::Query(message)
        }
        [_] => refuse(ResponseCode::Refused),
        _ => refuse(ResponseCode::FormErr),
    }
}

/// The answer to `query` in at most what the transport and the client take; what does not fit is cut off and `TC` set.
pub fn encode(
    query: &Message,
    answer: &Answer,
    authoritative: bool,
    transport: Transport,
) -> Result<Vec<u8>, ProtoError> {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.message_type = MessageType::Response;
    message.metadata.authoritative = authoritative;
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = query.metadata.checking_disabled;
    message.metadata.response_code = answer.code;
    message.queries.clone_from(&query.queries);
    message.answers.clone_from(&answer.answers);
    message.authorities.clone_from(&answer.authorities);
    message.additionals.clone_from(&answer.additionals);
    // The OPT record goes on by hand: the encoder would cut it off with the rest, and a client that sent one may not
    // go without (RFC 6891, 7).
    let opt = query.edns.as_ref().map(|edns| opt(answer.code, edns.flags().dnssec_ok));
    let limit = limit(query, transport) - opt.map_or(0, |_| OPT_BYTES);
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder)?;
    // A record that did not fit is rolled back by offset only: its bytes are still in the buffer.
    encoder.trim();
    if let Some(opt) = opt {
        bytes.extend(opt);
        // The header's last two bytes count the additional records.
        if let Some(count) = bytes.get_mut(10..12)
            && let Ok(additionals) = <[u8; 2]>::try_from(&*count)
        {
            count.copy_from_slice(&(u16::from_be_bytes(additionals) + 1).to_be_bytes());
        }
    }
    Ok(bytes)
}

/// How large an answer to `query` may be.
pub fn limit(query: &Message, transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => TCP_MAX,
        Transport::Udp => query.edns.as_ref().map_or(UDP_PLAIN, |edns| edns.max_payload().clamp(UDP_PLAIN, UDP_MAX)),
    }
}

fn opt(code: ResponseCode, dnssec_ok: bool) -> [u8; OPT_BYTES as usize] {
    let [payload_high, payload_low] = UDP_MAX.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    [0, 0, 41, payload_high, payload_low, code.high(), 0, flags, 0, 0, 0]
}

fn header_only(bytes: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut header = vec![0; 12];
    for (to, from) in header.iter_mut().zip(bytes).take(2) {
        *to = *from;
    }
    if let [_, _, flags, rest, ..] = header.as_mut_slice() {
        *flags = 0x80;
        *rest = code.low();
    }
    header
}
