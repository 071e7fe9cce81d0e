//! Random Services and slices against a naive evaluator, and random interleavings of changes.

use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

fn random_service(random: &mut Random, n: u64) -> Service {
    let ports: Vec<Value> = (0..=random.below(2))
        .map(|i| json!({ "name": format!("p{i}"), "port": 80 + i, "protocol": if random.chance() { "TCP" } else { "UDP" } }))
        .collect();
    let mut spec = json!({ "clusterIP": format!("10.96.0.{n}"), "ports": ports });
    match random.below(8) {
        0 => spec["clusterIP"] = json!("None"),
        1 => spec = json!({ "type": "ExternalName", "externalName": "example.org" }),
        2 => spec["sessionAffinity"] = json!("ClientIP"),
        3 => spec["publishNotReadyAddresses"] = json!(true),
        4 | 5 => spec["internalTrafficPolicy"] = json!("Local"),
        _ => {}
    }
    named(&format!("s{n}"), spec)
}

fn random_slice(random: &mut Random, service: u64, n: u64) -> EndpointSlice {
    let endpoints: Vec<Value> = (0..random.below(4))
        .map(|_| {
            json!({ "addresses": [format!("10.244.{}.{}", random.below(2), random.below(5))],
                "nodeName": format!("n{}", random.below(3)),
                "conditions": { "ready": random.chance(), "serving": random.chance(), "terminating": random.chance() } })
        })
        .collect();
    let ports: Vec<Value> = (0..=random.below(2))
        .map(|i| json!({ "name": format!("p{i}"), "port": 8000 + random.below(2), "protocol": if random.chance() { "TCP" } else { "UDP" } }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "namespace": "demo", "name": format!("s{service}-{n}"),
            "labels": { "kubernetes.io/service-name": format!("s{service}") } },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints }))
    .unwrap()
}

/// The rules read off the API documentation, without an eye to speed: `None` is no service at that address.
fn naive(service: &Service, slices: &[EndpointSlice], port: u16, protocol: &str) -> Option<Vec<String>> {
    let spec = service.spec.as_ref().unwrap();
    spec.cluster_ip.as_deref().filter(|ip| *ip != "None")?;
    let port =
        spec.ports.iter().flatten().find(|p| p.port == i32::from(port) && p.protocol.as_deref() == Some(protocol))?;
    let local_only = spec.internal_traffic_policy.as_deref() == Some("Local");
    let mut tiers: [Vec<String>; 2] = Default::default();
    for slice in slices {
        let label = &slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"];
        if Some(label) != service.metadata.name.as_ref() {
            continue;
        }
        let matching = |p: &&xebec_types::discovery::EndpointPort| p.name == port.name && p.protocol == port.protocol;
        let Some(number) = slice.ports.iter().flatten().find(matching).and_then(|p| p.port) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref().unwrap();
            if local_only && endpoint.node_name.as_deref() != Some(NODE) {
                continue;
            }
            let text = format!("{}:{number}", endpoint.addresses[0]);
            let ready = conditions.ready.unwrap() || spec.publish_not_ready_addresses == Some(true);
            if ready {
                tiers[0].push(text);
            } else if conditions.serving.unwrap() && conditions.terminating.unwrap() {
                tiers[1].push(text);
            }
        }
    }
    let [mut ready, mut last] = tiers;
    let chosen = if ready.is_empty() { &mut last } else { &mut ready };
    chosen.sort();
    chosen.dedup();
    Some(std::mem::take(chosen))
}

#[test]
fn compile_agrees_with_a_naive_evaluator() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let service = random_service(&mut random, 1);
        let slices: Vec<EndpointSlice> = (0..random.below(4)).map(|n| random_slice(&mut random, 1, n)).collect();
        let ports = compile_all([&service], &slices, &node());
        for (number, protocol) in [(80, "TCP"), (80, "UDP"), (81, "TCP"), (81, "UDP"), (82, "UDP")] {
            let compiled = ports.iter().find(|p| {
                p.frontends[0].key.port == number
                    && Protocol::parse(Some(protocol)) == Some(p.frontends[0].key.protocol)
            });
            let compiled = compiled.map(|p| {
                let mut list: Vec<String> = p.backends.iter().map(|b| format!("{}:{}", b.addr, b.port)).collect();
                list.sort();
                list
            });
            assert_eq!(compiled, naive(&service, &slices, number, protocol), "seed {seed} {number}/{protocol}");
        }
    }
}

#[test]
fn changes_lead_to_the_desired_state_in_any_order() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let world = |random: &mut Random| {
            let services: Vec<Service> = (0..6)
                .filter(|_| random.chance())
                .map(|n| n + 1)
                .collect::<Vec<u64>>()
                .into_iter()
                .map(|n| random_service(random, n))
                .collect();
            let slices: Vec<EndpointSlice> = (0..8)
                .map(|n| {
                    let s = random.below(7);
                    random_slice(random, s, n)
                })
                .collect();
            compile_all(&services, &slices, &node())
        };
        let (before, after) = (world(&mut random), world(&mut random));
        let state = |ports: &[ServicePort]| {
            ports.iter().flat_map(|p| p.programmed().collect::<Vec<_>>()).collect::<BTreeMap<_, _>>()
        };
        let mut actual = state(&before);
        let mut changes = diff(&actual, &after);
        random.shuffle(&mut changes);
        for change in &changes {
            apply(&mut actual, change);
        }
        assert_eq!(actual, state(&after), "seed {seed}");
        assert_eq!(diff(&actual, &after), [], "seed {seed}: twice is once");
    }
}

#[test]
fn the_table_arrives_where_a_full_compile_does() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut services: BTreeMap<u64, Service> = BTreeMap::new();
        let mut slices: BTreeMap<u64, Vec<EndpointSlice>> = BTreeMap::new();
        let mut table = Table::default();
        let mut kernel = BTreeMap::new();
        for step in 0..60 {
            let n = 1 + random.below(6);
            match random.below(4) {
                0 => drop(services.remove(&n)),
                1 => drop(services.insert(n, random_service(&mut random, n))),
                _ => drop(slices.insert(n, (0..random.below(3)).map(|i| random_slice(&mut random, n, i)).collect())),
            }
            let own: Vec<&EndpointSlice> = slices.get(&n).into_iter().flatten().collect();
            let ports = services.get(&n).map(|s| compile(s, &own, &node())).unwrap_or_default();
            let mut changes = table.update(&key(&format!("s{n}")), ports);
            random.shuffle(&mut changes);
            changes.iter().for_each(|change| apply(&mut kernel, change));
            let full = compile_all(services.values(), slices.values().flatten(), &node());
            let expected: BTreeMap<_, _> = full.iter().flat_map(|p| p.programmed().collect::<Vec<_>>()).collect();
            assert_eq!(kernel, expected, "seed {seed} step {step}");
            assert_eq!(table.programmed(), &expected, "seed {seed} step {step}");
        }
    }
}

/// Prints what compiling costs (`--no-capture`); asserts nothing about time.
#[test]
fn fifty_thousand_services_compile() {
    let count: u64 = if cfg!(debug_assertions) { 5_000 } else { 50_000 };
    let mut random = Random(1);
    let all: Vec<(ServiceKey, Vec<ServicePort>)> = (0..count)
        .map(|n| {
            let spec = json!({ "clusterIP": std::net::Ipv4Addr::from_bits(0x0a60_0000 + n as u32).to_string(),
                "ports": [{ "name": "p0", "port": 80, "protocol": "TCP" }] });
            let slices: Vec<EndpointSlice> = vec![random_slice(&mut random, n, 0)];
            let name = format!("s{n}");
            (key(&name), compile(&named(&name, spec), &slices.iter().collect::<Vec<_>>(), &node()))
        })
        .collect();
    let started = std::time::Instant::now();
    let mut table = Table::default();
    let changes = table.replace_all(all.clone());
    let full = started.elapsed();
    assert_eq!(changes.len() as u64, count);
    let started = std::time::Instant::now();
    for (key, ports) in all.iter().take(1000) {
        let mut ports = ports.clone();
        ports[0].affinity = Some(Duration::from_secs(1));
        assert_eq!(table.update(key, ports).len(), 1);
    }
    println!("{count} services: full {full:?}, one change {:?}", started.elapsed() / 1000);
}
