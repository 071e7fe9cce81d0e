//! Connections are shared out between client addresses: when all are taken, one from an address with fewer gets the place of
//! the idlest of the address with the most. Nodes keep theirs, for the cluster lives by them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;

/// Room for so many connections.
pub struct Seats {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    count: usize,
    by_address: HashMap<IpAddr, HashMap<u64, Arc<Held>>>,
}

struct Held {
    since: Instant,
    /// Once its client has said who it is.
    activity: OnceLock<Arc<Activity>>,
    is_node: AtomicBool,
    displaced: CancellationToken,
}

/// The place of one connection, free again when this is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
    number: u64,
    held: Arc<Held>,
}

impl Seats {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for a client of this address; None if there is none, and none that it has more right to.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = site(address);
        let mut taken = self.taken.lock();
        if taken.count >= self.max {
            taken.displace_for(address)?;
        }
        taken.last += 1;
        taken.count += 1;
        let number = taken.last;
        let held = Arc::new(Held {
            since: Instant::now(),
            activity: OnceLock::new(),
            is_node: AtomicBool::new(false),
            displaced: CancellationToken::new(),
        });
        taken.by_address.entry(address).or_default().insert(number, held.clone());
        drop(taken);
        Some(Seat { seats: self.clone(), address, number, held })
    }
}

impl Taken {
    /// Takes the idlest connection's place from the address with the most, if that leaves it no fewer than `address` then has.
    fn displace_for(&mut self, address: IpAddr) -> Option<()> {
        let own = self.by_address.get(&address).map_or(0, HashMap::len);
        let (&largest, held) = self.by_address.iter().max_by_key(|(_, held)| held.len())?;
        if held.len() < own + 2 {
            return None;
        }
        let mine = held.iter().filter(|(_, held)| !held.is_node.load(Ordering::Relaxed));
        let (&number, _) = mine.min_by_key(|(_, held)| held.rank())?;
        // Its task lets go of it soon; the place is counted as free at once.
        self.remove(largest, number)?.displaced.cancel();
        Some(())
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<Arc<Held>> {
        let of_address = self.by_address.get_mut(&address)?;
        let held = of_address.remove(&number)?;
        if of_address.is_empty() {
            self.by_address.remove(&address);
        }
        self.count -= 1;
        Some(held)
    }
}

impl Held {
    /// Those that ask for something come last, then those that did so lately.
    fn rank(&self) -> (bool, Instant) {
        self.activity.get().map_or((false, self.since), |activity| activity.rank())
    }
}

impl Seat {
    /// From now on it is known what the connection does.
    pub fn observe(&self, activity: Arc<Activity>, is_node: bool) {
        self.held.is_node.store(is_node, Ordering::Relaxed);
        // Once only: a connection speaks once.
        _ = self.held.activity.set(activity);
    }

    /// Returns when another has got the place.
    pub async fn displaced(&self) {
        self.held.displaced.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // None if it was displaced.
        _ = self.seats.taken.lock().remove(self.address, self.number);
    }
}

/// What one client has for itself: an IPv4 address, or an IPv6 network of 64 bits (RFC 4291, section 2.5.4).
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Limits::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_idlest_of_the_address_with_the_most_gives_way() {
        let [many, few, node]: [IpAddr; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        let seats = Seats::new(5);
        let mut held = Vec::new();
        for number in 0..4 {
            let seat = seats.take(many).expect("there is room");
            let activity = activity();
            seat.observe(activity.clone(), number == 0);
            held.push((seat, activity));
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let silent = seats.take(node).expect("there is room");
        // The first is a node's, the second asks for something, the third has just asked.
        let _busy = held[1].1.begin();
        drop(held[2].1.begin());
        let is_displaced = |seat: &Seat| seat.held.displaced.is_cancelled();
        let newcomer = seats.take(few).expect("the fourth gives way");
        assert_eq!(held.iter().map(|(seat, _)| is_displaced(seat)).collect::<Vec<_>>(), [false, false, false, true]);
        drop(held.pop());
        assert!(seats.take(many).is_none(), "not for one that has the most");
        let second = seats.take(few).expect("three to one");
        assert!(is_displaced(&held[2].0) && !is_displaced(&held[1].0), "the one that asked lately");
        assert!(seats.take(few).is_none(), "two each");
        drop((newcomer, second, silent, held));
        let left = seats.taken.lock();
        assert_eq!((left.count, left.by_address.len()), (0, 0));
    }

    #[test]
    fn a_network_is_one_client() {
        let check = |a: &str, b: &str, same: bool| {
            let [a, b] = [a, b].map(|text| site(text.parse().unwrap()));
            assert_eq!(a == b, same, "{a} {b}");
        };
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("::ffff:192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
    }
}
