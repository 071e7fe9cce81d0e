//! Chooses a backend for a new connection.

use xebec_abi::{
    Affinity, AffinityKey, Backend, BackendKey, Be16, Counter, FrontendKey, FrontendValue, MemberKey, Tuple,
    config::{CLIENT_ADDR, CLIENT_NETNS},
    lb::frontend_flag,
    limits::FIRST_BACKENDS,
    maglev::FLAGS as MAGLEV_FLAGS,
};

use crate::{Family, Tables, external::is_here, maglev};

/// Who asks, for session affinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client<A> {
    /// A network namespace of this node, by cookie.
    Netns(u64),
    /// An address elsewhere.
    Addr(A),
    /// The same, passed on by a node that has chosen this one: backends here come first ([`crate::dsr`]).
    Passed(A),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Nobody's frontend.
    NotAService,
    NoBackend,
    /// None on this node, which is all that the service wants.
    NoLocalBackend,
    /// The one in the [`Choice`].
    Backend,
}

/// What was chosen, and room for how.
#[derive(Clone, Copy, Default, Debug)]
pub struct Choice<A: Family> {
    pub frontend: FrontendValue,
    pub backend: Backend<A>,
    key: AffinityKey<A>,
    affinity: Affinity<A>,
    member: MemberKey<A>,
}

/// `pick` is a random number, or a hash for decisions that must repeat.
#[inline(always)]
pub fn select<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FrontendKey<A>,
    client: Client<A>,
    pick: u32,
    choice: &mut Choice<A>,
) -> Selection {
    let mut last = false;
    loop {
        let Some(frontend) = tables.frontend(key) else { return Selection::NotAService };
        choice.frontend = frontend;
        match backend(tables, key, client, pick, choice) {
            Ok(true) => return Selection::Backend,
            // The frontend was replaced, and its old backends deleted, since it was read.
            Err(Replaced) if !last => tables.count(Counter::FrontendRetry, 0),
            _ if is_local_only(&frontend) => return Selection::NoLocalBackend,
            _ => return Selection::NoBackend,
        }
        last = true;
    }
}

#[inline(always)]
fn is_local_only(frontend: &FrontendValue) -> bool {
    frontend.flags & frontend_flag::LOCAL_ONLY != 0
}

/// A frontend's backends are gone: the value that was read is old.
struct Replaced;

/// False: there is none.
#[inline(always)]
fn backend<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FrontendKey<A>,
    client: Client<A>,
    pick: u32,
    choice: &mut Choice<A>,
) -> Result<bool, Replaced> {
    let frontend = &choice.frontend;
    let is_near = matches!(client, Client::Passed(_)) && frontend.local != 0;
    let count = if is_local_only(frontend) || is_near { frontend.local } else { frontend.backends };
    if count == 0 {
        return Ok(false);
    }
    if frontend.affinity_s == 0 {
        slot(tables, key, count, client, pick, choice)?;
        return Ok(true);
    }
    choice.key = affinity_key(frontend, client);
    let now_ns = tables.now_ns();
    if !remembered(tables, now_ns, is_near, choice) {
        slot(tables, key, count, client, pick, choice)?;
    }
    remember(tables, now_ns, choice);
    Ok(true)
}

#[inline(always)]
fn slot<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FrontendKey<A>,
    count: u16,
    client: Client<A>,
    pick: u32,
    choice: &mut Choice<A>,
) -> Result<(), Replaced> {
    let frontend = &choice.frontend;
    let slot = match client {
        // A socket has no port yet when it connects.
        Client::Netns(_) => scale(pick, u32::from(count)) as u16,
        Client::Addr(_) => maglev::slot(tables, frontend, count, pick).ok_or(Replaced)?,
        Client::Passed(_) => near(tables, frontend, count, pick).ok_or(Replaced)?,
    };
    let is_first = frontend.flags & frontend_flag::FIRST != 0 && usize::from(slot) < FIRST_BACKENDS;
    if is_first {
        return if tables.first_backend(key, frontend, slot, &mut choice.backend) { Ok(()) } else { Err(Replaced) };
    }
    let key = BackendKey { service: frontend.service, generation: frontend.generation, slot };
    choice.backend = tables.backend(&key).ok_or(Replaced)?;
    Ok(())
}

/// The slot, of the first `count`, of a flow that another node has sent here with the same hash: of a Maglev table, which all
/// nodes have, the same backend. Else what that node chose by the hash would leave little of it to choose by here.
#[inline(always)]
fn near<A: Family, T: Tables<A>>(tables: &T, frontend: &FrontendValue, count: u16, pick: u32) -> Option<u16> {
    if frontend.flags & MAGLEV_FLAGS != 0 {
        let slot = maglev::slot(tables, frontend, count, pick)?;
        if slot < count {
            return Some(slot);
        }
    }
    Some(scale(pick.wrapping_mul(0x9e37_79b1), u32::from(count)) as u16)
}

/// Chooses the backend that the client is bound to, if the service still has it.
#[inline(always)]
fn remembered<A: Family, T: Tables<A>>(tables: &T, now_ns: u64, is_near: bool, choice: &mut Choice<A>) -> bool {
    let Some(affinity) = tables.affinity(&choice.key) else { return false };
    let lifetime_ns = u64::from(choice.frontend.affinity_s) * 1_000_000_000;
    if now_ns.wrapping_sub(affinity.used_ns) > lifetime_ns {
        return false;
    }
    let service = choice.frontend.service;
    choice.member = MemberKey { service, addr: affinity.addr, port: affinity.port, pad: [0; 2] };
    if !tables.is_member(&choice.member) || (is_near && !is_here(tables, &affinity.addr)) {
        return false;
    }
    choice.backend = Backend { addr: affinity.addr, port: affinity.port, ..Backend::default() };
    true
}

#[inline(always)]
fn remember<A: Family, T: Tables<A>>(tables: &T, now_ns: u64, choice: &mut Choice<A>) {
    let Choice { backend, affinity, .. } = choice;
    *affinity = Affinity { used_ns: now_ns, addr: backend.addr, port: backend.port, pad: A::PortPad::default() };
    tables.put_affinity(&choice.key, &choice.affinity);
}

#[inline(always)]
fn affinity_key<A: Family>(frontend: &FrontendValue, client: Client<A>) -> AffinityKey<A> {
    let (client, kind) = match client {
        Client::Netns(cookie) => (A::netns_client(cookie), CLIENT_NETNS),
        Client::Addr(addr) | Client::Passed(addr) => (addr.client(), CLIENT_ADDR),
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
