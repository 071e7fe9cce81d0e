use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;

const SIZE: u32 = 2_039;

fn backend(number: u16, weight: u8) -> Backend {
    at(Ipv4Addr::from(0x0af4_0000 + u32::from(number)), weight)
}

fn at(addr: impl Into<IpAddr>, weight: u8) -> Backend {
    Backend { addr: addr.into(), port: 8080, local: false, terminating: false, weight }
}

fn backends(count: u16) -> Vec<Backend> {
    (0..count).map(|number| backend(number, 0)).collect()
}

/// The address that each entry leads to.
fn entries(backends: &[Backend], size: u32) -> Vec<IpAddr> {
    let size = TableSize::new(size).expect("a size");
    table(backends, size).into_iter().map(|index| backends[usize::from(index)].addr).collect()
}

fn shares(entries: &[IpAddr]) -> BTreeMap<IpAddr, u32> {
    let mut shares = BTreeMap::new();
    for addr in entries {
        *shares.entry(*addr).or_default() += 1;
    }
    shares
}

#[track_caller]
fn check_equal(backends: &[Backend], size: u32) {
    let (shares, count) = (shares(&entries(backends, size)), backends.len());
    assert_eq!(shares.len(), count);
    let (least, most) = (shares.values().min(), shares.values().max());
    let fair = size / count as u32;
    assert!(
        least >= Some(&fair) && most <= Some(&(fair + 1)),
        "{count} backends in {size} entries: {least:?} to {most:?}"
    );
}

#[test]
fn shares_are_equal_to_one_entry() {
    for (count, size) in [(1, 251), (3, 251), (7, SIZE), (100, SIZE), (160, SIZE_DEFAULT), (1_000, 65_521)] {
        check_equal(&backends(count), size);
    }
    let ipv6 = |last| at(Ipv6Addr::new(0xfd10, 0xdb8, 0, 1, 0, 0, 0, last), 0);
    check_equal(&(1..=7).map(ipv6).collect::<Vec<_>>(), SIZE);
}

#[test]
fn shares_are_as_weights_say() {
    let weights = [1, 2, 4, 8];
    let backends: Vec<_> = (0..).zip(weights).map(|(number, weight)| backend(number, weight)).collect();
    let shares = shares(&entries(&backends, SIZE));
    for (backend, weight) in backends.iter().zip(weights) {
        let fair = f64::from(SIZE) * f64::from(weight) / 15.0;
        let share = f64::from(shares[&backend.addr]);
        assert!((share - fair).abs() <= 8.0, "weight {weight}: {share} entries instead of {fair}");
    }
}

#[test]
fn the_order_of_backends_does_not_matter() {
    let mut random = StdRng::seed_from_u64(1);
    for count in [2, 5, 50] {
        let mut backends: Vec<_> = (0..count).map(|number| backend(number, random.random_range(0..4))).collect();
        let sorted = entries(&backends, SIZE);
        backends.shuffle(&mut random);
        assert_eq!(entries(&backends, SIZE), sorted);
    }
}

/// The paper's figure 12: besides the entries of the backend that went, few change.
#[test]
fn a_backend_that_goes_takes_few_flows_of_others_with_it() {
    for count in [5_u16, 20, 100] {
        let all = backends(count);
        let before = entries(&all, SIZE_DEFAULT);
        for gone in [0, count / 2, count - 1] {
            let rest: Vec<_> = all.iter().filter(|backend| **backend != all[usize::from(gone)]).copied().collect();
            let after = entries(&rest, SIZE_DEFAULT);
            let addr = all[usize::from(gone)].addr;
            let moved = before.iter().zip(&after).filter(|(old, new)| **old != addr && old != new).count();
            let percent = moved as f64 * 100.0 / f64::from(SIZE_DEFAULT);
            assert!(percent < 5.0, "{percent:.1} % of the entries moved between backends that stay, of {count}");
        }
    }
}

#[test]
fn no_backends_have_no_table() {
    assert!(table(&[], TableSize::default()).is_empty());
    assert_eq!(block_values(ServiceId(1), 1, &[]), []);
}

#[test]
fn blocks_are_whole() {
    let table = table(&backends(3), TableSize::new(509).expect("a size"));
    let blocks = block_values(ServiceId(4), 2, &table);
    let keys: Vec<_> = blocks.iter().map(|(key, _)| (key.service, key.generation, key.block)).collect();
    assert_eq!(keys, [(ServiceId(4), 2, 0), (ServiceId(4), 2, 1)]);
    let slots: Vec<u16> = blocks.iter().flat_map(|(_, block)| block.slots).collect();
    assert_eq!(slots, [&table[..], &table[..3]].concat());
}

#[test]
fn only_primes_are_sizes() {
    assert_eq!("1021".parse(), Ok(TableSize(1_021)));
    for text in ["", "0", "1024", "16384", "131071", "x"] {
        assert_eq!(text.parse::<TableSize>(), Err(InvalidTableSize), "{text}");
    }
    assert!(InvalidTableSize.to_string().contains("16381"));
}
