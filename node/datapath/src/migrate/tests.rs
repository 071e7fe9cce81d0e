//! On pinned maps, so as root.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use xebec_abi::{Addr4, Affinity, AffinityKey, Be16, LocalPod, layout::Layout};

use super::*;
use crate::table::Table;

/// As versions before might have had them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct OldPod {
    pod_mac: [u8; 6],
    host_mac: [u8; 6],
    ifindex: u32,
}
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct OldAffinity {
    addr: Addr4,
    port: Be16,
    pad: [u8; 2],
    used_s: u64,
}

#[allow(unsafe_code)]
mod pods {
    // SAFETY: bytes without padding.
    unsafe impl aya::Pod for super::OldPod {}
    // SAFETY: bytes without padding.
    unsafe impl aya::Pod for super::OldAffinity {}
}

impl Layout for OldPod {
    const FINGERPRINT: u64 = 16;
}
impl Layout for OldAffinity {
    const FINGERPRINT: u64 = 17;
}

impl From<OldPod> for LocalPod {
    fn from(old: OldPod) -> Self {
        Self { ifindex: old.ifindex, pod_mac: old.pod_mac, host_mac: old.host_mac, ..Self::default() }
    }
}

impl From<OldAffinity> for Affinity<Addr4> {
    fn from(old: OldAffinity) -> Self {
        Self { used_ns: old.used_s * 1_000_000_000, addr: old.addr, port: old.port, pad: [0; 2] }
    }
}

struct Bpffs(TempDir);

impl Bpffs {
    fn new() -> Self {
        crate::memlock::raise().expect("works");
        let directory = tempfile::tempdir().expect("works");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .expect("a bpf filesystem (these tests need root)");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

type Clients = AffinityKey<Addr4>;

fn client(number: u64) -> Clients {
    Clients { client: number, ..Clients::default() }
}

fn bound(port: u16, used_ns: u64) -> Affinity<Addr4> {
    Affinity { used_ns, addr: [10, 0, 0, 1], port: Be16::new(port), pad: [0; 2] }
}

fn old(port: u16, used_s: u64) -> OldAffinity {
    OldAffinity { addr: [10, 0, 0, 1], port: Be16::new(port), pad: [0; 2], used_s }
}

#[test]
fn what_agents_write_is_converted_before_programs_are_loaded() {
    let bpffs = Bpffs::new();
    let directory = bpffs.path();
    let records = Records::open(directory).expect("works");
    let map = names::PODS4;
    let before = Table::<Addr4, OldPod>::create(map, 100).expect("works");
    let step = Step::new::<Addr4, OldPod, Addr4, LocalPod>(map);
    records.note(&before.fd(), map, step.from).expect("works");
    let pod = |ifindex| OldPod { pod_mac: [1; 6], host_mac: [2; 6], ifindex };
    before.put_all(&[[10, 0, 0, 1], [10, 0, 0, 2]], &[pod(7), pod(8)]).expect("works");
    before.pin(&directory.join(map)).expect("works");
    let wanted = [(map, step.to)];
    let migration =
        Migration::prepare_with(directory, &wanted, &[step], &records, &Observer::default()).expect("works");
    assert!(!migration.is_moving() && migration.mask() == 0);
    assert_eq!(migration.done(), [Migrated { map, entries: Some(2) }]);
    let after = Table::<Addr4, LocalPod>::open(directory, map).expect("works");
    assert_eq!(after.limit(), 100);
    let found = after.get(&[10, 0, 0, 2]).expect("works").expect("works");
    assert_eq!((found.ifindex, found.pod_mac, found.host_mac, found.flags), (8, [1; 6], [2; 6], 0));
    // Twice is once.
    let again = Migration::prepare_with(directory, &wanted, &[], &records, &Observer::default()).expect("works");
    assert_eq!(again.done(), []);
}

#[test]
fn what_old_programs_write_after_the_copy_is_carried_over_unless_new_ones_know_better() {
    let bpffs = Bpffs::new();
    let directory = bpffs.path();
    let records = Records::open(directory).expect("works");
    let map = names::LB4_AFFINITY;
    let before = Table::<Clients, OldAffinity>::create(map, 100).expect("works");
    let step = Step::new::<Clients, OldAffinity, Clients, Affinity<Addr4>>(map);
    let number = step.to;
    records.note(&before.fd(), map, step.from).expect("works");
    before.put_all(&[client(1), client(2), client(3)], &[old(1, 1), old(1, 1), old(1, 1)]).expect("works");
    before.pin(&directory.join(map)).expect("works");
    let mut migration =
        Migration::prepare_with(directory, &[(map, number)], &[step], &records, &Observer::default()).expect("works");
    assert!(migration.is_moving() && migration.mask() == 0);
    let pins = migration.pins(directory);
    assert_eq!(pins.keys().copied().collect::<Vec<_>>(), [map]);
    let after = Table::<Clients, Affinity<Addr4>>::open_at(&pins[map], map).expect("works");
    assert_eq!(after.get(&client(1)).expect("works"), Some(bound(1, 1_000_000_000)));
    // Old programs go on with two of them, and know one more; new ones with one of these.
    before.put_all(&[client(2), client(3), client(4)], &[old(2, 2), old(2, 2), old(2, 2)]).expect("works");
    after.put(&client(3), &bound(3, 3)).expect("works");
    migration.carry(directory, &Observer::default()).expect("works");
    let after = Table::<Clients, Affinity<Addr4>>::open(directory, map).expect("works");
    let all: HashMap<_, _> = after.entries().expect("works").into_iter().collect();
    let late = bound(2, 2_000_000_000);
    let expected = [(1, bound(1, 1_000_000_000)), (2, late), (3, bound(3, 3)), (4, late)];
    assert_eq!(all, expected.map(|(number, value)| (client(number), value)).into());
    assert_eq!(records.number(sys::map_info(after.fd()).expect("works").id).expect("works"), Some(number));
}

#[test]
fn a_map_of_an_unknown_layout_is_not_read_and_one_without_a_number_has_nothing_to_lose() {
    let bpffs = Bpffs::new();
    let directory = bpffs.path();
    let records = Records::open(directory).expect("works");
    let mut ids = Vec::new();
    for (map, number) in [(names::PODS4, Some(9)), (names::PODS6, None)] {
        let pinned = Table::<Addr4, LocalPod>::create(map, 100).expect("works");
        pinned.pin(&directory.join(map)).expect("works");
        ids.push(sys::map_info(pinned.fd()).expect("works").id);
        if let Some(number) = number {
            records.note(&pinned.fd(), map, number).expect("works");
        }
    }
    let wanted = [(names::PODS4, 1), (names::PODS6, 1)];
    let migration = Migration::prepare_with(directory, &wanted, &[], &records, &Observer::default()).expect("works");
    assert_eq!(migration.done(), [Migrated { map: names::PODS4, entries: None }]);
    assert!(wanted.iter().all(|(map, _)| !directory.join(map).exists()));
    // Its id is forgotten with it.
    records.settle(directory).expect("works");
    assert_eq!(records.number(ids[0]).expect("works"), None);
}

#[test]
fn maps_that_were_pinned_before_numbers_were_kept_are_of_the_first_version() {
    let bpffs = Bpffs::new();
    let directory = bpffs.path();
    let map = names::PODS4;
    let pinned = Table::<Addr4, LocalPod>::create(map, 100).expect("works");
    pinned.pin(&directory.join(map)).expect("works");
    let records = Records::open(directory).expect("works");
    let migration = Migration::prepare(directory, MapLayout::Current, &records, &Observer::default()).expect("works");
    assert!(!migration.is_moving());
    assert_eq!(migration.done(), []);
    assert!(directory.join(map).exists());
}
