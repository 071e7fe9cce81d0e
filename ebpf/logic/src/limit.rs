//! The rate at which packets go into a pod.

use xebec_abi::{Counter, DropReason, LocalPod, PodRate, pod_flag};

use crate::{Host, Packet};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Pass,
    /// Its sender should slow down.
    Mark,
    Drop,
}

/// What becomes of a packet and of its bucket. A structure for the reason that [`crate::Verdict`] is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    pub admission: Admission,
    /// It was full: it will be again at this time. 0 if it was not.
    pub start_ns: u64,
    /// It is full later by so much: CPUs that add at the same time all count.
    pub add_ns: u64,
}

impl Charge {
    const fn free(admission: Admission) -> Self {
        Self { admission, start_ns: 0, add_ns: 0 }
    }
}

/// Takes a packet's bytes from the bucket of the pod that it is for, if that has one. From a bucket that is less than half
/// full, packets tell their senders of congestion where these asked for that (RFC 3168); from an empty one there are none.
#[inline(always)]
pub fn admit<P: Packet, T: Host>(packet: &mut P, tables: &T, pod: &LocalPod) -> Result<(), DropReason> {
    if pod.flags & pod_flag::LIMITED == 0 {
        return Ok(());
    }
    take(packet, tables, pod.ifindex)
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn take<P: Packet, T: Host>(packet: &mut P, tables: &T, ifindex: u32) -> Result<(), DropReason> {
    let (bytes, now) = (packet.bytes(), tables.now_ns());
    match tables.charge(ifindex, |rate| charge(rate, bytes, now)) {
        Admission::Pass => {}
        Admission::Mark => {
            if packet.mark_congestion() {
                tables.count(Counter::CongestionMarked, bytes);
            }
        }
        Admission::Drop => return Err(DropReason::PodBandwidth),
    }
    Ok(())
}

/// A packet is let through if there is anything in the bucket, also if it is larger than that: what it takes too much is
/// missing afterwards.
#[inline(always)]
fn charge(rate: &PodRate, bytes: u64, now: u64) -> Charge {
    // Without a limit there is nothing to divide by.
    let Some(ns) = bytes.wrapping_mul(1_000_000_000).checked_div(rate.bytes_per_s) else {
        return Charge::free(Admission::Pass);
    };
    if rate.full_ns <= now {
        return Charge { start_ns: now.wrapping_add(ns), ..Charge::free(Admission::Pass) };
    }
    let missing = rate.full_ns.wrapping_sub(now);
    if missing >= rate.burst_ns {
        return Charge::free(Admission::Drop);
    }
    let admission = if missing > rate.burst_ns >> 1 { Admission::Mark } else { Admission::Pass };
    Charge { add_ns: ns, ..Charge::free(admission) }
}

#[cfg(test)]
mod tests;
