//! The controller between a small API server and a datapath that remembers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use xebec_client::Informers;

use super::api::Api;
use super::*;

#[derive(Default)]
struct Kernel {
    state: Mutex<BTreeMap<FrontendKey, Programmed>>,
    checks: Mutex<Vec<HealthCheck>>,
    batches: AtomicUsize,
    refuses: AtomicBool,
}

#[async_trait]
impl Sink for Kernel {
    async fn programmed(&self) -> Result<Vec<Programmed>, SinkError> {
        Ok(self.state.lock().unwrap().values().cloned().collect())
    }

    async fn apply(&self, changes: &[Change]) -> Vec<(usize, SinkError)> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return (0..changes.len()).map(|index| (index, "map full".into())).collect();
        }
        let mut state = self.state.lock().unwrap();
        changes.iter().for_each(|change| apply(&mut state, change));
        Vec::new()
    }

    async fn health_checks(&self, checks: Vec<HealthCheck>, _: &[IpAddr]) {
        *self.checks.lock().unwrap() = checks;
    }
}

impl Kernel {
    /// `address:port -> backends`, of every frontend.
    fn seen(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let backends = |p: &Programmed| p.backends.iter().map(|b| b.addr.to_string()).collect::<Vec<_>>().join(" ");
        state.iter().map(|(key, p)| format!("{}:{} -> {}", key.addr, key.port, backends(p))).collect()
    }

    async fn becomes(&self, expected: &[&str]) {
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.seen() != expected {
            assert!(tokio::time::Instant::now() < end, "{:?} instead of {expected:?}", self.seen());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn at(name: &str, address: &str) -> Service {
    named(name, with(with(http(), "clusterIP", json!(address)), "clusterIPs", json!([address])))
}

#[tokio::test]
async fn the_datapath_follows_the_api() {
    let (api, kernel, metrics) = (Api::default(), Arc::new(Kernel::default()), Arc::new(Metrics::default()));
    // Left by an earlier run: one Service that is still there, one that is not.
    let old = [
        compile(&at("web", "10.96.0.7"), &[&slice("web", 80, &[("10.244.9.9", "n2", "rs")])], &node()),
        compile(&at("gone", "10.96.0.9"), &[], &node()),
    ];
    old.iter().flatten().for_each(|port| kernel.state.lock().unwrap().extend(port.programmed()));
    let left = ["10.96.0.7:80 -> 10.244.9.9", "10.96.0.9:80 -> "];

    let informers = Informers::new(api.client());
    let stop = CancellationToken::new();
    let refusals: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&refusals);
    let refused: Refused = Arc::new(move |service, why| {
        sink.lock().unwrap().push(format!("{}: {why}", service.metadata.name.as_deref().unwrap()));
    });
    let config = Config { refused: Some(refused), ..Config::new(node()) };
    let mut applied = config.applied.subscribe();
    let run = run(&informers, config, kernel.clone(), metrics.clone(), stop.clone());
    let body = async {
        api.put(at("web", "10.96.0.7"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(kernel.seen(), left, "nothing is touched before everything was listed");
        assert_eq!(*applied.borrow(), 0, "nothing is applied yet");
        api.put(slice("web", 80, &[("10.244.1.2", "n1", "rs")]));
        api.open();
        kernel.becomes(&["10.96.0.7:80 -> 10.244.1.2"]).await;

        api.put(slice("web", 80, &[("10.244.1.2", "n1", "rs"), ("10.244.2.2", "n2", "rs")]));
        kernel.becomes(&["10.96.0.7:80 -> 10.244.1.2 10.244.2.2"]).await;
        // The Service is version 1, the slice 2 and then 3: this node says so once the datapath has it.
        applied.wait_for(|version| *version == 3).await.unwrap();
        kernel.refuses.store(true, Ordering::Relaxed);
        api.put(slice("web", 80, &[("10.244.2.2", "n2", "rs")]));
        while metrics.failures.load(Ordering::Relaxed) < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*applied.borrow(), 3, "what the datapath refused is not applied");
        assert_eq!(refusals.lock().unwrap()[0], "web: map full", "its Service is told");
        kernel.refuses.store(false, Ordering::Relaxed);
        applied.wait_for(|version| *version == 4).await.unwrap();
        kernel.becomes(&["10.96.0.7:80 -> 10.244.2.2"]).await;
        api.delete("endpointslices", "web-80");
        kernel.becomes(&["10.96.0.7:80 -> "]).await;

        kernel.refuses.store(true, Ordering::Relaxed);
        api.put(at("more", "10.96.0.8"));
        api.delete("services", "web");
        while metrics.failures.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kernel.refuses.store(false, Ordering::Relaxed);
        kernel.becomes(&["10.96.0.8:80 -> "]).await;
        stop.cancel();
    };
    tokio::join!(run, body);
    assert!(metrics.render().contains("xebec_services_frontends 1\n"));
}

#[tokio::test]
async fn changes_that_come_together_are_one_batch() {
    let (api, kernel) = (Api::default(), Arc::new(Kernel::default()));
    api.open();
    let informers = Informers::new(api.client());
    let stop = CancellationToken::new();
    let config = Config { coalesce: Duration::from_millis(50), ..Config::new(node()) };
    let run = run(&informers, config, kernel.clone(), Arc::default(), stop.clone());
    let body = async {
        informers.informer::<Service>().synced().await;
        (0..100).for_each(|n| api.put(at(&format!("s{n}"), &format!("10.96.1.{n}"))));
        while kernel.seen().len() < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(run, body);
    assert!(kernel.batches.load(Ordering::Relaxed) <= 3, "{:?}", kernel.batches);
}

fn pod(name: &str, ip: &str, port: Value) -> Value {
    json!({ "metadata": { "namespace": "demo", "name": name },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "ports": [port] }] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] } })
}

#[tokio::test]
async fn host_ports_and_health_checks_follow_the_api() {
    let (api, kernel) = (Api::default(), Arc::new(Kernel::default()));
    api.open();
    let informers = Informers::new(api.client());
    let stop = CancellationToken::new();
    let run = run(&informers, Config::new(node()), kernel.clone(), Arc::default(), stop.clone());
    let body = async {
        api.put(pod("a", "10.244.1.2", json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1" })));
        kernel.becomes(&["127.0.0.1:8080 -> 10.244.1.2"]).await;
        // The port goes over to another pod when its owner is gone.
        api.put(pod("b", "10.244.1.3", json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1" })));
        api.delete("pods", "a");
        kernel.becomes(&["127.0.0.1:8080 -> 10.244.1.3"]).await;
        api.delete("pods", "b");
        kernel.becomes(&[]).await;

        let spec = with(with(http(), "type", json!("LoadBalancer")), "externalTrafficPolicy", json!("Local"));
        api.put(named("web", with(spec, "healthCheckNodePort", json!(31_000))));
        api.put(slice(
            "web",
            80,
            &[("10.244.1.2", "n1", "rs"), ("10.244.1.3", "n1", "st"), ("10.244.2.2", "n2", "rs")],
        ));
        let check = HealthCheck { service: key("web"), port: 31_000, local_endpoints: 1 };
        while *kernel.checks.lock().unwrap() != [check.clone()] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        api.delete("services", "web");
        while !kernel.checks.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(run, body) }).await.expect("in time");
}

#[tokio::test]
async fn ports_of_the_node_are_where_its_addresses_are() {
    let (api, kernel) = (Api::default(), Arc::new(Kernel::default()));
    api.open();
    let informers = Informers::new(api.client());
    let stop = CancellationToken::new();
    let (told, seen) = tokio::sync::watch::channel(addresses(&["172.30.0.11"]));
    let config = Config { addresses: Some(seen), ..Config::new(node()) };
    let run = run(&informers, config, kernel.clone(), Arc::default(), stop.clone());
    let body = async {
        let spec = with(with(http(), "type", json!("NodePort")), "clusterIP", json!("10.96.0.7"));
        let mut web = named("web", spec);
        web.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = Some(30_080);
        api.put(web);
        api.put(pod("a", "10.244.1.2", json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.7" })));
        // Both scopes of the node's address, and loopback's one.
        let before = ["10.96.0.7:80 -> ", "127.0.0.1:30080 -> ", "172.30.0.11:30080 -> ", "172.30.0.11:30080 -> "];
        kernel.becomes(&before).await;
        told.send_replace(addresses(&["172.30.0.11", "192.0.2.7"]));
        let added = [
            "192.0.2.7:8080 -> 10.244.1.2",
            "192.0.2.7:8080 -> 10.244.1.2",
            "192.0.2.7:30080 -> ",
            "192.0.2.7:30080 -> ",
        ];
        kernel.becomes(&[&before[..], &added].concat()).await;
        told.send_replace(addresses(&["172.30.0.11"]));
        kernel.becomes(&before).await;
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(run, body) }).await.expect("in time");
}

#[tokio::test]
async fn what_others_change_in_the_datapath_is_put_back_and_told() {
    let (api, kernel) = (Api::default(), Arc::new(Kernel::default()));
    api.open();
    let informers = Informers::new(api.client());
    let stop = CancellationToken::new();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&told);
    let repaired: Repaired = Arc::new(move |wrong| sink.lock().unwrap().extend(wrong));
    let compare = Duration::from_millis(20);
    let config = Config { compare, repaired: Some(repaired), ..Config::new(node()) };
    let run = run(&informers, config, kernel.clone(), Arc::default(), stop.clone());
    let whole = ["10.96.0.7:80 -> 10.244.1.2", "10.96.0.8:80 -> "];
    let body = async {
        api.put(at("web", "10.96.0.7"));
        api.put(at("empty", "10.96.0.8"));
        api.put(slice("web", 80, &[("10.244.1.2", "n1", "rs")]));
        kernel.becomes(&whole).await;
        tokio::time::sleep(compare * 5).await;
        assert!(told.lock().unwrap().is_empty(), "{told:?}");

        let frontend = *kernel.state.lock().unwrap().keys().next().unwrap();
        kernel.state.lock().unwrap().remove(&frontend);
        kernel.becomes(&whole).await;
        kernel.state.lock().unwrap().get_mut(&frontend).unwrap().backends.clear();
        kernel.becomes(&whole).await;
        let stray = compile(&at("stray", "10.96.0.9"), &[], &node());
        kernel.state.lock().unwrap().extend(stray.iter().flat_map(ServicePort::programmed));
        kernel.becomes(&whole).await;
        tokio::time::sleep(compare * 5).await;
        stop.cancel();
    };
    tokio::join!(run, body);
    let expected = ["service demo/web", "service demo/web", "10.96.0.9:80, which is no Service's"];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn who_asks_for_direct_server_return_in_vain_is_told_once() {
    for (forwarding, expected) in [(None, (vec![], vec!["web"])), (Some(Forwarding::Snat), (vec!["demo/web"], vec![]))]
    {
        let (api, kernel) = (Api::default(), Arc::new(Kernel::default()));
        api.open();
        let informers = Informers::new(api.client());
        let stop = CancellationToken::new();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&told);
        let denied: Denied = Arc::new(move |service| sink.lock().unwrap().push(service.metadata.name.clone().unwrap()));
        let config = Config { denied: Some(denied), ..Config::new(Node { forwarding, ..node() }) };
        let direct = config.direct.subscribe();
        let run = run(&informers, config, kernel.clone(), Arc::default(), stop.clone());
        let annotated = |mode: &str, vip: &str| {
            let mut spec = cluster_ip(json!([{ "port": 80, "nodePort": 30_080 }]));
            (spec["type"], spec["clusterIPs"]) = (json!("NodePort"), json!([vip]));
            let mut service = service(spec);
            service.metadata.annotations = Some([("xebec.io/forwarding-mode".to_owned(), mode.to_owned())].into());
            service
        };
        let names = || direct.borrow().iter().map(ToString::to_string).collect::<Vec<_>>();
        let programmed = async |vip: &str| {
            while !kernel.seen().iter().any(|frontend| frontend.starts_with(vip)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let body = async {
            // A clusterIP alone is nothing that clients outside dial.
            let mut inside = annotated("dsr", "10.96.0.6");
            inside.metadata.name = Some("inside".to_owned());
            inside.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
            inside.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = None;
            api.put(inside);
            // Another change of it says nothing anew.
            for vip in ["10.96.0.7:", "10.96.0.8:"] {
                api.put(annotated("dsr", vip.trim_end_matches(':')));
                programmed(vip).await;
            }
            assert_eq!((names(), told.lock().unwrap().clone()), (to_owned(&expected.0), to_owned(&expected.1)));
            api.put(annotated("snat", "10.96.0.9"));
            programmed("10.96.0.9:").await;
            assert_eq!(names(), [""; 0]);
            stop.cancel();
        };
        tokio::join!(run, body);
    }
}

fn to_owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
