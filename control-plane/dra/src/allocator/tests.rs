//! Slices, classes and claims as users write them; what is chosen as `claim/request: pool/device`, and where that can be used.

use serde_json::{Value, json};

use super::*;

const DRIVER: &str = "gpu.example.com";

/// A slice of a node's devices.
fn slice(node: &str, devices: Value) -> Value {
    json!({"metadata": {"name": node}, "spec": {
        "driver": DRIVER, "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}, "devices": devices,
    }})
}

fn gpu(name: &str, attributes: Value) -> Value {
    json!({"name": name, "attributes": attributes, "capacity": {"memory": {"value": "8Gi"}}})
}

fn two() -> Value {
    json!([
        gpu("gpu-0", json!({"model": {"string": "a"}, "numa": {"int": 0}})),
        gpu("gpu-1", json!({"model": {"string": "b"}, "numa": {"int": 1}}))
    ])
}

fn claim(name: &str, devices: Value) -> Arc<ResourceClaim> {
    let claim = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"devices": devices}});
    Arc::new(serde_json::from_value(claim).unwrap())
}

fn request(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    exactly.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": name, "exactly": exactly})
}

fn requests(requests: Value) -> Value {
    json!({"requests": requests})
}

fn selector(expression: &str) -> Value {
    json!([{"cel": {"expression": expression}}])
}

struct Case {
    slices: Vec<Value>,
    taken: Vec<(&'static str, &'static str)>,
    claims: Vec<Arc<ResourceClaim>>,
}

fn case(slices: &[Value], claims: Vec<Value>) -> Case {
    let claims = claims.into_iter().enumerate().map(|(n, devices)| claim(&format!("c{n}"), devices)).collect();
    Case { slices: slices.to_vec(), taken: Vec::new(), claims }
}

impl Case {
    fn taken(mut self, taken: &[(&'static str, &'static str)]) -> Self {
        self.taken = taken.to_vec();
        self
    }

    fn allocate(&self, node: &str) -> Result<Option<Vec<AllocationResult>>, String> {
        let slices: Vec<Arc<_>> =
            self.slices.iter().map(|slice| Arc::new(serde_json::from_value(slice.clone()).unwrap())).collect();
        let id = |(pool, device): &(&str, &str)| DeviceId {
            driver: DRIVER.into(),
            pool: (*pool).into(),
            device: (*device).into(),
        };
        let class = |name: &str| {
            let config = json!([{"opaque": {"driver": DRIVER, "parameters": {"from": "class"}}}]);
            let class = json!({"metadata": {"name": name}, "spec": {"selectors": selector("device.driver == 'gpu.example.com'"), "config": config}});
            (name == "gpu").then(|| Arc::new(serde_json::from_value(class).unwrap()))
        };
        let inventory = Arc::new(Inventory::new(slices.iter()));
        let allocator = Allocator::new(inventory, self.taken.iter().map(id).collect(), &self.claims, class)?;
        let label = |key: &str| (key == "zone").then(|| if node == "n1" { "a" } else { "b" });
        allocator.allocate(&Node { name: node, label: &label })
    }

    /// What the claims get on `n1`.
    #[track_caller]
    fn check(self, expected: Result<Option<&[&str]>, &str>) {
        let found = self.allocate("n1").map(|found| {
            let lines = found?.into_iter().zip(&self.claims).flat_map(|(allocation, claim)| {
                let name = claim.metadata.name.clone().unwrap();
                let results = allocation.devices.unwrap().results.unwrap();
                results.into_iter().map(move |r| format!("{name}/{}: {}/{}", r.request, r.pool, r.device))
            });
            Some(lines.collect::<Vec<_>>())
        });
        let expected = expected.map(|lines| lines.map(|lines| lines.iter().map(ToString::to_string).collect()));
        assert_eq!(found, expected.map_err(str::to_owned));
    }
}

#[test]
fn free_devices_that_the_selectors_mean_are_taken_in_order() {
    let slices = [slice("n1", two()), slice("n2", two())];
    let one = requests(json!([request("r", json!({}))]));
    case(&slices, vec![one.clone()]).check(Ok(Some(&["c0/r: n1/gpu-0"])));
    case(&slices, vec![one.clone(), one.clone()]).check(Ok(Some(&["c0/r: n1/gpu-0", "c1/r: n1/gpu-1"])));
    case(&slices, vec![one.clone(), one.clone(), one.clone()]).check(Ok(None));
    case(&slices, vec![one.clone()]).taken(&[("n1", "gpu-0")]).check(Ok(Some(&["c0/r: n1/gpu-1"])));
    case(&slices, vec![one]).taken(&[("n1", "gpu-0"), ("n1", "gpu-1")]).check(Ok(None));
    let model_b = request("r", json!({"selectors": selector("device.attributes['gpu.example.com'].model == 'b'")}));
    case(&slices, vec![requests(json!([model_b]))]).check(Ok(Some(&["c0/r: n1/gpu-1"])));
    case(&slices, vec![requests(json!([request("r", json!({"count": 2}))]))])
        .check(Ok(Some(&["c0/r: n1/gpu-0", "c0/r: n1/gpu-1"])));
    case(&slices, vec![requests(json!([request("r", json!({"count": 3}))]))]).check(Ok(None));
}

#[test]
fn a_request_gives_way_to_one_that_follows() {
    let only_a = request("picky", json!({"selectors": selector("device.attributes['gpu.example.com'].model == 'a'")}));
    let any = request("any", json!({}));
    case(&[slice("n1", two())], vec![requests(json!([any, only_a]))])
        .check(Ok(Some(&["c0/any: n1/gpu-1", "c0/picky: n1/gpu-0"])));
}

#[test]
fn all_devices_are_had_or_none() {
    let all = requests(json!([request("r", json!({"allocationMode": "All", "count": null}))]));
    let slices = [slice("n1", two())];
    case(&slices, vec![all.clone()]).check(Ok(Some(&["c0/r: n1/gpu-0", "c0/r: n1/gpu-1"])));
    case(&slices, vec![all.clone()]).taken(&[("n1", "gpu-1")]).check(Ok(None));
    case(&[], vec![all.clone()]).check(Ok(None));
    let mut half = slice("n1", two());
    half["spec"]["pool"]["resourceSliceCount"] = json!(2);
    let why = "request r: asks for all devices, but resource pool gpu.example.com/n1 is currently being updated";
    case(&[half.clone()], vec![all]).check(Err(why));
    case(&[half], vec![requests(json!([request("r", json!({}))]))]).check(Ok(None));
}

#[test]
fn only_the_newest_generation_of_a_pool_counts() {
    let (mut old, mut new) = (slice("n1", two()), slice("n1", json!([gpu("gpu-9", json!({}))])));
    old["metadata"]["name"] = json!("old");
    new["spec"]["pool"]["generation"] = json!(2);
    let one = requests(json!([request("r", json!({}))]));
    case(&[old, new], vec![one.clone()]).check(Ok(Some(&["c0/r: n1/gpu-9"])));
    let twice = slice("n1", json!([gpu("gpu-0", json!({})), gpu("gpu-0", json!({}))]));
    case(&[twice], vec![one]).check(Ok(None));
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken() {
    let sub = |name: &str, count: i64| json!({"name": name, "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count});
    let either = requests(json!([{"name": "r", "firstAvailable": [sub("four", 4), sub("two", 2), sub("one", 1)]}]));
    case(&[slice("n1", two())], vec![either.clone()]).check(Ok(Some(&["c0/r/two: n1/gpu-0", "c0/r/two: n1/gpu-1"])));
    case(&[slice("n1", two())], vec![either]).taken(&[("n1", "gpu-0")]).check(Ok(Some(&["c0/r/one: n1/gpu-1"])));
}

#[test]
fn constrained_devices_have_one_value() {
    let devices = json!([
        gpu("a0", json!({"numa": {"int": 0}})),
        gpu("b0", json!({"numa": {"int": 1}})),
        gpu("b1", json!({"gpu.example.com/numa": {"int": 1}})),
        gpu("c0", json!({})),
    ]);
    let pair = |constrained: Value| json!({"requests": [request("r", json!({"count": 2}))], "constraints": [{"requests": constrained, "matchAttribute": "gpu.example.com/numa"}]});
    let slices = [slice("n1", devices)];
    case(&slices, vec![pair(json!([]))]).check(Ok(Some(&["c0/r: n1/b0", "c0/r: n1/b1"])));
    case(&slices, vec![pair(json!(["r"]))]).taken(&[("n1", "b1")]).check(Ok(None));
    let mut other = pair(json!(["s"]));
    other["requests"].as_array_mut().unwrap().push(request("s", json!({})));
    case(&slices, vec![other]).check(Ok(Some(&["c0/r: n1/a0", "c0/r: n1/b0", "c0/s: n1/b1"])));
}

#[test]
fn tainted_devices_are_for_those_who_tolerate_it() {
    let mut devices = two();
    devices[0]["taints"] =
        json!([{"key": "broken", "value": "yes", "effect": "NoSchedule"}, {"key": "seen", "effect": "None"}]);
    let slices = [slice("n1", devices)];
    let with = |tolerations: Value| requests(json!([request("r", json!({"tolerations": tolerations}))]));
    case(&slices, vec![with(json!([]))]).check(Ok(Some(&["c0/r: n1/gpu-1"])));
    let tolerated = [
        json!([{"operator": "Exists"}]),
        json!([{"key": "broken", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]),
    ];
    for tolerations in tolerated {
        case(&slices, vec![with(tolerations)]).check(Ok(Some(&["c0/r: n1/gpu-0"])));
    }
    case(&slices, vec![with(json!([{"key": "broken", "operator": "Equal", "value": "no"}]))])
        .check(Ok(Some(&["c0/r: n1/gpu-1"])));
    let all = requests(json!([request("r", json!({"allocationMode": "All", "count": null}))]));
    case(&slices, vec![all]).check(Ok(None));
}

#[test]
fn who_only_looks_on_shares_devices() {
    let admin = requests(json!([request("r", json!({"adminAccess": true}))]));
    let one = requests(json!([request("r", json!({"count": 2}))]));
    case(&[slice("n1", two())], vec![one.clone(), admin.clone()]).check(Ok(Some(&[
        "c0/r: n1/gpu-0",
        "c0/r: n1/gpu-1",
        "c1/r: n1/gpu-0",
    ])));
    case(&[slice("n1", two())], vec![admin]).taken(&[("n1", "gpu-0")]).check(Ok(Some(&["c0/r: n1/gpu-0"])));
}

#[test]
fn parts_of_a_device_take_of_what_it_has() {
    let part = |name: &str, memory: &str| {
        let mut part = gpu(name, json!({}));
        part["consumesCounters"] = json!([{"counterSet": "gpu-0", "counters": {"memory": {"value": memory}}}]);
        part
    };
    let mut parts = slice("n1", json!([part("whole", "40Gi"), part("half-0", "20Gi"), part("half-1", "20Gi")]));
    let mut counters = slice("n1", Value::Null);
    counters["spec"]["sharedCounters"] = json!([{"name": "gpu-0", "counters": {"memory": {"value": "40Gi"}}}]);
    for slice in [&mut parts, &mut counters] {
        slice["spec"]["pool"]["resourceSliceCount"] = json!(2);
    }
    let slices = [parts, counters];
    let one = requests(json!([request("r", json!({}))]));
    case(&slices, vec![one.clone()]).check(Ok(Some(&["c0/r: n1/whole"])));
    case(&slices, vec![one.clone(), one.clone()]).check(Ok(Some(&["c0/r: n1/half-0", "c1/r: n1/half-1"])));
    case(&slices, vec![one.clone()]).taken(&[("n1", "half-0")]).check(Ok(Some(&["c0/r: n1/half-1"])));
    case(&slices, vec![one]).taken(&[("n1", "whole")]).check(Ok(None));
}

#[test]
fn an_allocation_says_where_it_can_be_used_and_what_drivers_are_told() {
    let one = |requests: Value| {
        let config = json!([{"requests": ["r"], "opaque": {"driver": DRIVER, "parameters": {"from": "claim"}}}]);
        json!({"requests": requests, "config": config})
    };
    let found = |slices: &[Value], devices: Value| {
        let mut found = case(slices, vec![devices]).allocate("n1").unwrap().unwrap();
        serde_json::to_value(found.remove(0)).unwrap()
    };
    let claim = one(json!([request("r", json!({}))]));
    let allocation = found(&[slice("n1", two())], claim.clone());
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
    assert_eq!(allocation["nodeSelector"], json!({"nodeSelectorTerms": [{"matchFields": [field]}]}));
    let opaque = |from: &str| json!({"driver": DRIVER, "parameters": {"from": from}});
    let config =
        json!([{"source": "FromClass", "opaque": opaque("class")}, {"source": "FromClaim", "opaque": opaque("claim")}]);
    assert_eq!(allocation["devices"]["config"], config);
    let both = found(&[slice("n1", two())], one(json!([request("r", json!({})), request("s", json!({}))])));
    let named = json!([{"source": "FromClass", "opaque": opaque("class")}, {"source": "FromClaim", "requests": ["r"], "opaque": opaque("claim")}]);
    assert_eq!(both["devices"]["config"], named);
    let mut in_zone = slice("n1", two());
    in_zone["spec"]["nodeName"] = Value::Null;
    let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]);
    in_zone["spec"]["nodeSelector"] = json!({"nodeSelectorTerms": terms});
    assert_eq!(found(&[in_zone.clone()], claim.clone())["nodeSelector"], json!({"nodeSelectorTerms": terms}));
    assert_eq!(case(&[in_zone.clone()], vec![claim.clone()]).allocate("n2"), Ok(None));
    in_zone["spec"]["nodeSelector"] = Value::Null;
    in_zone["spec"]["allNodes"] = json!(true);
    assert_eq!(found(&[in_zone], claim).get("nodeSelector"), None);
}

#[test]
fn what_is_wrong_with_a_claim_is_said() {
    let failing = request("r", json!({"selectors": selector("device.attributes['gpu.example.com'].none == 1")}));
    let why = "claim n/c0: selector #0: CEL runtime error: no such key: none";
    case(&[slice("n1", two())], vec![requests(json!([failing]))]).check(Err(why));
    let mut unknown = request("r", json!({}));
    unknown["exactly"]["deviceClassName"] = json!("nic");
    case(&[], vec![requests(json!([unknown]))]).check(Err("request r: device class nic does not exist"));
}

#[test]
fn a_search_ends() {
    let devices: Vec<Value> = (0..60).map(|n| gpu(&format!("gpu-{n}"), json!({"numa": {"int": n}}))).collect();
    let slices: Vec<Value> = vec![slice("n1", json!(devices))];
    let many = json!({"requests": (0..16).map(|n| request(&format!("r{n}"), json!({}))).chain([request("s", json!({"count": 2}))]).collect::<Vec<_>>(),
        "constraints": [{"requests": ["s"], "matchAttribute": "gpu.example.com/numa"}]});
    case(&slices, vec![many]).check(Ok(None));
}
