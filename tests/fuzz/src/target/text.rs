//! Small languages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use xebec_apiserver::request_info::RequestInfo;
use xebec_apiserver::{Continue, decoders};
use xebec_controllers::service_lb::AddressRange;
use xebec_kubelet::eviction::Thresholds;
use xebec_machinery::selector::{FieldSelector, LabelSelector};
use xebec_machinery::{GroupVersion, Quantity, cron, duration};

use super::{bytes, halves, joined};

pub fn selector_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "a=b,c!=d,e==f",
        "x in (a,b,),y notin (),!z,w",
        "example.com/name=value,n>5,m<6",
        "metadata.name=x,spec.nodeName!=y\\,z,status.phase=a\\=b\\\\",
    ])
}

pub fn selector(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(selector) = LabelSelector::parse(&text) {
        _ = selector.matches(|name| (name.len() % 2 == 0).then_some("5"));
    }
    if let Ok(selector) = FieldSelector::parse(&text) {
        _ = selector.matches(|name| (name.len() % 2 == 0).then_some("x"));
    }
}

pub fn quantity_seeds() -> Vec<Vec<u8>> {
    bytes(&["100m", "1.5Gi", "-0.000000001", "12e6", "1E", "+3k", "9223372036854775807", "1e-9", "0.5n"])
}

/// What is read can be written and read again, and is the same.
pub fn quantity(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    _ = (quantity.value(), quantity.as_milli(), quantity.is_zero());
    let written = quantity.to_string();
    let again = written.parse::<Quantity>();
    assert!(again.as_ref().is_ok_and(|again| again.to_string() == written), "{text} {written} {again:?}");
}

pub fn duration_seeds() -> Vec<Vec<u8>> {
    bytes(&["1h2m3s4ms5us6ns", "-1.5h", "0", "9223372036854775807ns", "*/5 1-3 * jan,feb mon", "@every 1h", "@daily"])
}

/// Durations, schedules and times.
pub fn duration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    _ = duration::parse(&text).is_ok();
    _ = cron::Schedule::parse(&text, None).is_ok();
    _ = xebec_machinery::time::parse(&text);
}

pub fn continue_seeds() -> Vec<Vec<u8>> {
    let token = |revision: Option<u64>, start: &str| {
        let revision = revision.map_or_else(|| serde_json::json!(-1), |revision| serde_json::json!(revision));
        serde_json::json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": start }).to_string().into_bytes()
    };
    let tokens = [token(Some(7), "default/x\0"), token(None, "")];
    tokens.into_iter().chain(bytes(&["eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Nywic3RhcnQiOiJhIn0"])).collect()
}

/// What is read can be written and read again, and is the same. Half of the inputs are what a token holds.
pub fn continue_token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let inner = URL_SAFE_NO_PAD.encode(bytes);
    for token in [&*text, &*inner] {
        if let Ok(read) = Continue::decode(token) {
            assert_eq!(Continue::decode(&read.encode()).ok().as_ref(), Some(&read), "{token}");
        }
    }
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    vec![
        joined("/api/v1/namespaces/default/pods/p/log", "container=c&follow=true&fieldSelector=metadata.name%3Dx"),
        joined("/apis/apps/v1/watch/deployments", "labelSelector=a%20in%20(b)&limit=5&continue=x"),
        joined(
            "/apis/example.com/v1/namespaces/n/things/t/status",
            "dryRun=All&fieldManager=m&fieldValidation=Strict&force=1",
        ),
        joined(
            "/api/v1/pods",
            "resourceVersion=5&resourceVersionMatch=Exact&sendInitialEvents=true&allowWatchBookmarks=1&timeoutSeconds=9",
        ),
        joined("/api/v1/pods/p", "gracePeriodSeconds=-1&propagationPolicy=Orphan&orphanDependents=true"),
        joined("application/json;as=Table;v=v1;g=meta.k8s.io, */*;q=1", ""),
    ]
}

/// A path with its query; the query is also that of a list, a write and a delete, the path also a header.
pub fn request(bytes: &[u8]) {
    let (path, query) = halves(bytes);
    forms(path);
    let (path, query) = (String::from_utf8_lossy(path), String::from_utf8_lossy(query));
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let info = RequestInfo::new(&method, &path, &query);
        _ = (info.group_version(), info.resource_and_subresource(), info.verb.is_read_only());
    }
    let body = serde_json::from_slice(path.as_bytes()).unwrap_or_default();
    decoders::options(&query, &body);
}

fn forms(value: &[u8]) {
    if let Ok(value) = http::HeaderValue::from_bytes(value) {
        let names = [http::header::ACCEPT, http::header::CONTENT_TYPE, http::header::ACCEPT_ENCODING];
        decoders::forms(&names.map(|name| (name, value.clone())).into_iter().collect());
    }
}

pub fn metrics_seeds() -> Vec<Vec<u8>> {
    let text = |cpu: u32, at: &str| {
        let labels = r#"{container="c",namespace="n",pod="p"}"#;
        format!(
            "# HELP x\nnode_cpu_usage_seconds_total {cpu}.5{at}\nnode_memory_working_set_bytes 5e8{at}\n\
             container_cpu_usage_seconds_total{labels} {cpu}{at}\ncontainer_memory_working_set_bytes{labels} 7{at}\n\
             container_start_time_seconds{labels} 1.5e-3\n"
        )
    };
    vec![joined(&text(1, ""), &text(2, "")), joined(&text(1, " 15000"), &text(3, " 30000"))]
}

/// What a kubelet says that its containers use, twice.
pub fn metrics(bytes: &[u8]) {
    let (before, text) = halves(bytes);
    decoders::resource_metrics(&String::from_utf8_lossy(before), &String::from_utf8_lossy(text));
}

pub fn setting_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "192.0.2.0/24",
        "192.0.2.10-192.0.2.20",
        "2001:db8::/64",
        "::-ffff::",
        "memory.available<100Mi,nodefs.inodesFree<5%",
        "apps/v1",
    ])
}

/// What operators write on command lines and in annotations.
pub fn setting(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(range) = text.parse::<AddressRange>() {
        assert!(range.total() > 0 && range.addresses().take(3).all(|address| range.contains(address)), "{text}");
        assert_eq!(range.to_string().parse().as_ref(), Ok(&range));
    }
    _ = text.parse::<Thresholds>().is_ok();
    if let Ok(group) = text.parse::<GroupVersion>() {
        assert_eq!(group.to_string().parse().as_ref(), Ok(&group));
    }
}
