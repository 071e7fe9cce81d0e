use std::time::Duration;

use serde_json::json;

use super::*;

const UNLIMITED: ServiceLimits = ServiceLimits::NONE;

fn capacity(limits: ServiceLimits) -> ServiceCapacity {
    ServiceCapacity::new(limits, &["10.96.0.0/16", "fd96::/112"].map(|range| range.parse().expect("a network")))
}

/// With so many ports: the first is called `0`.
fn service(name: &str, ports: usize) -> Value {
    let ports: Vec<Value> = (0..ports).map(|port| json!({ "name": port.to_string(), "port": port + 1 })).collect();
    json!({ "metadata": { "namespace": "demo", "name": name }, "spec": { "ports": ports } })
}

/// With endpoints of the port `0`.
fn slice(service: &str, name: &str, endpoints: usize) -> Value {
    json!({
        "metadata": { "namespace": "demo", "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": vec![json!({ "addresses": ["192.0.2.1"] }); endpoints],
        "ports": [{ "name": "0", "port": 8080 }],
    })
}

/// Lets it in, as if it were stored then.
#[track_caller]
fn store(capacity: &ServiceCapacity, write: Write<'_>) {
    let (key, part, _) = capacity.parts(&write, None).expect("it counts");
    capacity.counts.lock().set(&key, part);
}

fn all(capacity: &ServiceCapacity) -> Needs {
    capacity.counts.lock().all()
}

#[track_caller]
fn refused(capacity: &ServiceCapacity, write: Write<'_>, old: Option<&Value>, why: &str) {
    let before = all(capacity);
    assert_eq!(capacity.admit(&write, old, false), Err(why.to_owned()));
    assert_eq!(all(capacity), before, "what is refused does not count");
}

#[test]
fn services_without_room_for_their_frontends_are_refused() {
    let capacity = capacity(ServiceLimits { frontends: 10, ..UNLIMITED });
    store(&capacity, Write::Service(&service("a", 7)));
    let full = |taken: u64, more: u64| {
        format!(
            "map xb_lb4_fe of the nodes' datapath takes 10 frontends (--datapath-capacity frontends=10): {taken} are taken, and \
             this Service needs {more} more"
        )
    };
    refused(&capacity, Write::Service(&service("b", 4)), None, &full(7, 4));
    // One that is there may grow into what is left, and shrink in any case.
    let fits = |new: &Value, old: &Value| capacity.admit(&Write::Service(new), Some(old), true);
    assert_eq!(fits(&service("a", 10), &service("a", 7)), Ok(()));
    refused(&capacity, Write::Service(&service("a", 11)), Some(&service("a", 7)), &full(7, 4));
    store(&capacity, Write::Service(&service("c", 9)));
    assert_eq!(fits(&service("a", 6), &service("a", 7)), Ok(()));
    assert_eq!(fits(&service("a", 7), &service("a", 7)), Ok(()));
    refused(&capacity, Write::Service(&service("a", 8)), Some(&service("a", 7)), &full(16, 1));
    for gone in ["a", "c"] {
        capacity.counts.lock().set(&key("demo", gone), Part::Service(Service::default()));
    }
    assert_eq!(capacity.admit(&Write::Service(&service("b", 10)), None, false), Ok(()));
}

#[test]
fn slices_without_room_for_their_backends_are_refused() {
    let capacity = capacity(ServiceLimits { backends: 10, ..UNLIMITED });
    store(&capacity, Write::Service(&service("a", 1)));
    store(&capacity, Write::Service(&service("b", 1)));
    store(&capacity, Write::Slice(&slice("a", "a1", 3)));
    let full = |taken: u64, more: u64, kept: u64| {
        format!(
            "map xb_lb4_be of the nodes' datapath takes 10 backends (--datapath-capacity backends=10): {taken} are taken, and this \
             EndpointSlice needs {more} more, besides {kept} for the service port with the most, which has them twice while they \
             change"
        )
    };
    // 3 and 4, and 4 of them again.
    refused(&capacity, Write::Slice(&slice("b", "b1", 4)), None, &full(3, 4, 4));
    refused(&capacity, Write::Slice(&slice("a", "a2", 3)), None, &full(3, 3, 6));
    assert_eq!(capacity.admit(&Write::Slice(&slice("b", "b1", 3)), None, false), Ok(()));
    assert_eq!(all(&capacity)[1], [6, 0]);
    // Of what is too much already, no change is refused that does not add to it.
    store(&capacity, Write::Slice(&slice("a", "a1", 30)));
    let update = |new: &Value, old: &Value| capacity.admit(&Write::Slice(new), Some(old), false);
    assert_eq!(update(&slice("a", "a1", 30), &slice("a", "a1", 30)), Ok(()));
    assert_eq!(update(&slice("a", "a1", 29), &slice("a", "a1", 30)), Ok(()));
    refused(&capacity, Write::Slice(&slice("a", "a1", 31)), Some(&slice("a", "a1", 30)), &full(33, 1, 31));
    refused(&capacity, Write::Slice(&slice("b", "a1", 1)), Some(&slice("a", "a1", 30)), &full(33, 1, 30));
    // They take nothing: nobody dials them.
    assert_eq!(update(&slice("none", "a1", 30), &slice("a", "a1", 30)), Ok(()));
    assert_eq!(capacity.admit(&Write::Slice(&slice("none", "n", 100)), None, false), Ok(()));
}

#[test]
fn services_count_with_the_slices_that_are_there() {
    let capacity = capacity(ServiceLimits { backends: 10, members: 4, ..UNLIMITED });
    store(&capacity, Write::Slice(&slice("a", "a1", 3)));
    store(&capacity, Write::Slice(&slice("a", "a2", 2)));
    assert_eq!(all(&capacity)[1], [0, 0]);
    let mut sticky = service("a", 1);
    sticky["spec"]["sessionAffinity"] = "ClientIP".into();
    refused(
        &capacity,
        Write::Service(&sticky),
        None,
        "map xb_lb4_member of the nodes' datapath takes 4 members (--datapath-capacity members=4): 0 are taken, and this Service needs \
         5 more",
    );
    assert_eq!(capacity.admit(&Write::Service(&service("a", 1)), None, false), Ok(()));
    assert_eq!(all(&capacity), [[1, 0], [5, 0], [0, 0], [0, 0], [0, 0]]);
    assert!(capacity.admit(&Write::Service(&sticky), Some(&service("a", 1)), false).is_err());
}

#[test]
fn a_service_port_has_as_many_backends_as_the_datapath_takes() {
    let capacity = capacity(ServiceLimits { service_backends: 5, ..UNLIMITED });
    store(&capacity, Write::Service(&service("a", 2)));
    store(&capacity, Write::Slice(&slice("a", "a1", 3)));
    let mut other = slice("a", "a2", 5);
    other["ports"][0]["name"] = "1".into();
    assert_eq!(capacity.admit(&Write::Slice(&other), None, true), Ok(()), "another port");
    assert_eq!(capacity.admit(&Write::Slice(&slice("a", "a2", 2)), None, true), Ok(()));
    refused(
        &capacity,
        Write::Slice(&slice("a", "a2", 3)),
        None,
        "the nodes' datapath takes 5 backends of a service port: port 0/TCP of Service demo/a has 3, and this EndpointSlice has 3 \
         more; lead to some of them by another Service",
    );
    store(&capacity, Write::Slice(&slice("a", "a2", 6)));
    assert_eq!(capacity.admit(&Write::Slice(&slice("a", "a2", 5)), Some(&slice("a", "a2", 6)), false), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_let_in_counts_until_it_is_known_not_to_be_stored() {
    let capacity = capacity(ServiceLimits { backends: 10, ..UNLIMITED });
    store(&capacity, Write::Service(&service("a", 1)));
    let five = slice("a", "a1", 5);
    let admit = |slice: &Value, dry_run| capacity.admit(&Write::Slice(slice), None, dry_run);
    assert_eq!(admit(&five, true), Ok(()));
    assert_eq!(all(&capacity)[1], [0, 0], "what is only tried does not count");
    assert_eq!(admit(&five, false), Ok(()));
    assert_eq!(admit(&five, false), Ok(()), "asked for once more, it counts once");
    assert!(admit(&slice("a", "a2", 1), false).is_err());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(admit(&slice("a", "a2", 1), true), Ok(()), "it was not stored");
    assert_eq!(all(&capacity)[1], [0, 0]);
    assert_eq!(admit(&five, false), Ok(()));
    store(&capacity, Write::Slice(&five));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(admit(&slice("a", "a2", 1), false).is_err(), "it was stored");
    assert_eq!(all(&capacity)[1], [5, 0]);
}

#[test]
fn what_is_gone_is_not_counted_again() {
    let capacity = capacity(UNLIMITED);
    let mut counts = capacity.counts.lock();
    let cluster = Cluster { families: Families::new(&[]), table_blocks: 1 };
    let of = |ports: usize| Service::of(&service("a", ports), &cluster);
    let slices = |names: &[(&str, usize)]| -> Vec<(String, Box<str>, Slice)> {
        let of = |(name, endpoints): &(&str, usize)| {
            let (_, parsed) = Slice::of(slice("a", name, *endpoints)).expect("a slice");
            ("demo/a".to_owned(), (*name).into(), parsed)
        };
        names.iter().map(of).collect()
    };
    counts.replace_slices(slices(&[("a1", 3), ("a2", 2)]));
    counts.replace_services(vec![("demo/a".into(), of(2)), ("demo/b".into(), of(5))]);
    assert_eq!((counts.all(), counts.most_backends(0)), ([[7, 0], [5, 0], [0, 0], [0, 0], [0, 0]], 5));
    counts.replace_services(vec![("demo/a".into(), of(1))]);
    assert_eq!(counts.all(), [[1, 0], [5, 0], [0, 0], [0, 0], [0, 0]]);
    counts.replace_slices(slices(&[("a2", 4)]));
    assert_eq!((counts.all(), counts.most_backends(0)), ([[1, 0], [4, 0], [0, 0], [0, 0], [0, 0]], 4));
    counts.set("demo/a", Part::Slice("a2".into(), None));
    counts.set("demo/a", Part::Service(Service::default()));
    assert_eq!((counts.all(), counts.most_backends(0)), ([[0, 0]; 5], 0));
}
