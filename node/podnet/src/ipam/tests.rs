#![allow(clippy::unwrap_used)]

use super::*;

fn record(container: &str) -> Record {
    Record {
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        secondary_ip: None,
        container: container.to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/x".into(),
        namespace: "default".to_owned(),
        name: container.to_owned(),
        uid: String::new(),
    }
}

fn open(dir: &tempfile::TempDir, pod_cidr: &str) -> Ipam {
    Ipam::open(dir.path(), &[pod_cidr.parse().unwrap()]).unwrap()
}

fn last_byte(record: &Record) -> u8 {
    record.ip.to_string().rsplit('.').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn addresses_are_given_in_turn_and_rest_before_reuse() {
    let dir = tempfile::tempdir().unwrap();
    let mut ipam = open(&dir, "10.244.1.0/29");
    let now = Instant::now();
    let given: Vec<u8> = (0..3).map(|i| last_byte(&ipam.allocate(record(&format!("c{i}")), now).unwrap())).collect();
    assert_eq!(given, [2, 3, 4]);
    ipam.release("10.244.1.2".parse().unwrap(), now).unwrap();
    ipam.release("10.244.1.2".parse().unwrap(), now).unwrap();
    assert_eq!(last_byte(&ipam.allocate(record("c5"), now).unwrap()), 5);
    assert_eq!(last_byte(&ipam.allocate(record("c6"), now).unwrap()), 6);
    let error = ipam.allocate(record("c7"), now + QUARANTINE / 2).unwrap_err();
    assert_eq!(error.to_string(), "no free pod address in 10.244.1.0/29: 4 in use, 1 released less than 30 s ago");
    assert_eq!(last_byte(&ipam.allocate(record("c8"), now + QUARANTINE).unwrap()), 2);
}

#[tokio::test]
async fn a_restart_keeps_records_and_the_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut ipam = open(&dir, "10.244.1.0/24");
    let now = Instant::now();
    let first = ipam.allocate(record("a"), now).unwrap();
    std::thread::sleep(Duration::from_millis(20)); // File times may have the tick's resolution.
    let second = ipam.allocate(record("b"), now).unwrap();
    ipam.release(first.ip, now).unwrap();
    drop(ipam);
    // What crashes and power failures leave.
    fs::write(dir.path().join("10.244.1.9.tmp"), b"{").unwrap();
    fs::write(dir.path().join("10.244.1.8"), b"").unwrap();
    let mut ipam = open(&dir, "10.244.1.0/24");
    assert_eq!(ipam.records().collect::<Vec<_>>(), [&second]);
    assert_eq!(ipam.find("b", "eth0"), Some(&second));
    assert_eq!(ipam.find("b", "eth1"), None);
    assert_eq!(last_byte(&ipam.allocate(record("c"), now).unwrap()), 4);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn records_of_another_pod_cidr_stay_until_released() {
    let dir = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let old = open(&dir, "10.244.1.0/24").allocate(record("a"), now).unwrap();
    let mut ipam = open(&dir, "10.244.7.0/24");
    assert_eq!(ipam.find("a", "eth0"), Some(&old));
    assert_eq!(ipam.allocate(record("b"), now).unwrap().ip, IpAddr::from([10, 244, 7, 2]));
    ipam.release(old.ip, now).unwrap();
    assert_eq!(ipam.find("a", "eth0"), None);
}

#[test]
fn small_networks() {
    let dir = tempfile::tempdir().unwrap();
    let error = Ipam::open(dir.path(), &["10.244.1.0/31".parse().unwrap()]).unwrap_err();
    assert!(matches!(error, Error::PodCidrTooSmall(_)), "{error}");
    let mut ipam = open(&dir, "10.244.1.8/30");
    assert_eq!(gateway("10.244.1.8/30".parse().unwrap()), IpAddr::from([10, 244, 1, 9]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(last_byte(&ipam.allocate(record("a"), Instant::now()).unwrap()), 10);
        assert!(ipam.allocate(record("b"), Instant::now()).is_err());
    });
}

#[tokio::test]
async fn a_pod_has_an_address_of_each_family() {
    let dir = tempfile::tempdir().unwrap();
    let cidrs = ["10.244.1.0/24", "fd00:244:1::/64"].map(|cidr| cidr.parse().unwrap());
    let now = Instant::now();
    let mut ipam = Ipam::open(dir.path(), &cidrs).unwrap();
    let ips = |record: &Record| record.ips().map(|ip| ip.to_string()).collect::<Vec<_>>();
    let first = ipam.allocate(record("a"), now).unwrap();
    assert_eq!(ips(&first), ["10.244.1.2", "fd00:244:1::2"]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(ips(&ipam.allocate(record("b"), now).unwrap()), ["10.244.1.3", "fd00:244:1::3"]);
    ipam.release(first.ip, now).unwrap();
    drop(ipam);
    // A record of a time when the cluster had one family.
    let old = r#"{"ip":"10.244.1.9","container":"o","ifname":"eth0","netns":"/n","namespace":"d","name":"o","uid":""}"#;
    std::thread::sleep(Duration::from_millis(20));
    fs::write(dir.path().join("10.244.1.9"), old).unwrap();
    let mut ipam = Ipam::open(dir.path(), &cidrs).unwrap();
    assert_eq!(ips(ipam.find("o", "eth0").unwrap()), ["10.244.1.9"]);
    assert_eq!(ips(&ipam.allocate(record("c"), now).unwrap()), ["10.244.1.10", "fd00:244:1::4"]);

    let turned = [cidrs[1], cidrs[0]];
    let mut ipam = Ipam::open(dir.path(), &turned).unwrap();
    assert_eq!(ips(&ipam.allocate(record("d"), now).unwrap()), ["fd00:244:1::5", "10.244.1.11"]);
    assert!(dir.path().join("fd00:244:1::5").exists());
}

#[tokio::test]
async fn one_exhausted_family_takes_nothing_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let cidrs = ["10.244.1.0/24", "fd00::/126"].map(|cidr| cidr.parse().unwrap());
    let mut ipam = Ipam::open(dir.path(), &cidrs).unwrap();
    let now = Instant::now();
    ipam.allocate(record("a"), now).unwrap();
    ipam.allocate(record("b"), now).unwrap();
    let error = ipam.allocate(record("c"), now).unwrap_err();
    assert_eq!(error.to_string(), "no free pod address in fd00::/126: 2 in use, 0 released less than 30 s ago");
    assert_eq!(ipam.records().count(), 2);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
