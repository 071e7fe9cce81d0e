//! Chooses a backend for a new connection.

use xebec_abi::{
    Affinity, AffinityKey, Backend, BackendKey, Be16, Counter, FrontendKey, FrontendValue, MemberKey, Tuple,
    config::{CLIENT_ADDR, CLIENT_NETNS},
    lb::frontend_flag,
};

use crate::{Family, Tables, maglev};

/// Who asks, for session affinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client<A> {
    /// A network namespace of this node, by cookie.
    Netns(u64),
    /// An address elsewhere.
    Addr(A),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection<A: Family> {
    /// Nobody's frontend.
    NotAService,
    NoBackend,
    /// None on this node, which is all that the service wants.
    NoLocalBackend,
    Backend(FrontendValue, Backend<A>),
}

/// `pick` is a random number, or a hash for decisions that must repeat.
#[inline(always)]
pub fn select<A: Family, T: Tables<A>>(tables: &T, key: &FrontendKey<A>, client: Client<A>, pick: u32) -> Selection<A> {
    let Some(frontend) = tables.frontend(key) else { return Selection::NotAService };
    match backend(tables, &frontend, client, pick) {
        Ok(Some(backend)) => return Selection::Backend(frontend, backend),
        Ok(None) if is_local_only(&frontend) => return Selection::NoLocalBackend,
        Ok(None) => return Selection::NoBackend,
        Err(Replaced) => tables.count(Counter::FrontendRetry, 0),
    }
    // The frontend was replaced, and its old backends deleted, since it was read.
    let Some(frontend) = tables.frontend(key) else { return Selection::NotAService };
    match backend(tables, &frontend, client, pick) {
        Ok(Some(backend)) => Selection::Backend(frontend, backend),
        _ if is_local_only(&frontend) => Selection::NoLocalBackend,
        _ => Selection::NoBackend,
    }
}

#[inline(always)]
fn is_local_only(frontend: &FrontendValue) -> bool {
    frontend.flags & frontend_flag::LOCAL_ONLY != 0
}

/// A frontend's backends are gone: the value that was read is old.
struct Replaced;

#[inline(always)]
fn backend<A: Family, T: Tables<A>>(
    tables: &T,
    frontend: &FrontendValue,
    client: Client<A>,
    pick: u32,
) -> Result<Option<Backend<A>>, Replaced> {
    let count = if is_local_only(frontend) { frontend.local } else { frontend.backends };
    if count == 0 {
        return Ok(None);
    }
    if frontend.affinity_s == 0 {
        return slot(tables, frontend, count, client, pick).map(Some);
    }
    let key = affinity_key(frontend, client);
    let now_ns = tables.now_ns();
    if let Some(backend) = remembered(tables, frontend, &key, now_ns) {
        return Ok(Some(backend));
    }
    let backend = slot(tables, frontend, count, client, pick)?;
    remember(tables, &key, &backend, now_ns);
    Ok(Some(backend))
}

#[inline(always)]
fn slot<A: Family, T: Tables<A>>(
    tables: &T,
    frontend: &FrontendValue,
    count: u16,
    client: Client<A>,
    pick: u32,
) -> Result<Backend<A>, Replaced> {
    let slot = match client {
        // A socket has no port yet when it connects.
        Client::Netns(_) => scale(pick, u32::from(count)) as u16,
        Client::Addr(_) => maglev::slot(tables, frontend, count, pick).ok_or(Replaced)?,
    };
    let key = BackendKey { service: frontend.service, generation: frontend.generation, slot };
    tables.backend(&key).ok_or(Replaced)
}

/// The backend a client is bound to, if the service still has it.
#[inline(always)]
fn remembered<A: Family, T: Tables<A>>(
    tables: &T,
    frontend: &FrontendValue,
    key: &AffinityKey<A>,
    now_ns: u64,
) -> Option<Backend<A>> {
    let affinity = tables.affinity(key)?;
    let lifetime_ns = u64::from(frontend.affinity_s) * 1_000_000_000;
    if now_ns.wrapping_sub(affinity.used_ns) > lifetime_ns {
        return None;
    }
    let member = MemberKey { service: frontend.service, addr: affinity.addr, port: affinity.port, pad: [0; 2] };
    if !tables.is_member(&member) {
        return None;
    }
    let backend = Backend { addr: affinity.addr, port: affinity.port, ..Backend::default() };
    remember(tables, key, &backend, now_ns);
    Some(backend)
}

#[inline(always)]
fn remember<A: Family, T: Tables<A>>(tables: &T, key: &AffinityKey<A>, backend: &Backend<A>, now_ns: u64) {
    let value = Affinity { used_ns: now_ns, addr: backend.addr, port: backend.port, pad: A::PortPad::default() };
    tables.put_affinity(key, &value);
}

#[inline(always)]
fn affinity_key<A: Family>(frontend: &FrontendValue, client: Client<A>) -> AffinityKey<A> {
    let (client, kind) = match client {
        Client::Netns(cookie) => (A::netns_client(cookie), CLIENT_NETNS),
        Client::Addr(addr) => (addr.client(), CLIENT_ADDR),
    };
    AffinityKey { client, service: frontend.service, kind, pad: [0; 3] }
}

/// Scales a uniform `u32` to `0..count` without division (Lemire 2019, "Fast Random Integer
/// Generation in an Interval"); the bias is below one in a thousand for `count` up to 2^22.
#[inline(always)]
pub const fn scale(uniform: u32, count: u32) -> u32 {
    ((uniform as u64 * count as u64) >> 32) as u32
}

/// A hash of a flow that spreads evenly in its upper bits.
#[inline(always)]
pub fn hash<A: Family>(tuple: &Tuple<A>, proto: u8, seed: u32) -> u32 {
    let ports = word(tuple.ports.src, tuple.ports.dst);
    let mut h = seed ^ u32::from(proto);
    h = tuple.src.mix(h);
    h = tuple.dst.mix(h);
    h = mix(h, ports);
    // The finaliser of MurmurHash3.
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// One step of MurmurHash3.
#[inline(always)]
pub const fn mix(h: u32, word: u32) -> u32 {
    let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Both ports as they lie in the packet, as one word of this machine.
#[inline(always)]
pub fn word(src: Be16, dst: Be16) -> u32 {
    let ([a, b], [c, d]) = (src.bytes(), dst.bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
