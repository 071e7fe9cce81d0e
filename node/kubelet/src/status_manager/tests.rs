use std::sync::Mutex;

use super::*;

fn status(phase: &str, ip: Option<&str>) -> PodStatus {
    let ips = ip.map(|ip| json!([{"ip": ip}]));
    serde_json::from_value(json!({"phase": phase, "podIP": ip, "podIPs": ips})).unwrap()
}

fn reference() -> PodRef {
    PodRef { namespace: "ns".into(), name: "p".into(), uid: "u".into() }
}

#[test]
fn a_patch_holds_what_changed_and_what_goes() {
    let check = |before: Option<PodStatus>, after: PodStatus, want: Value| {
        assert_eq!(patch(&reference(), before.as_ref(), &after).map(|p| p["status"].clone()).unwrap_or_default(), want);
    };
    check(None, status("Pending", None), json!({"phase": "Pending"}));
    check(Some(status("Pending", None)), status("Pending", None), Value::Null);
    let with_ip = json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]});
    check(Some(status("Pending", None)), status("Running", Some("10.0.0.1")), with_ip);
    let other = json!({"podIP": "10.0.0.2", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]});
    check(Some(status("Running", Some("10.0.0.1"))), status("Running", Some("10.0.0.2")), other);
    check(Some(status("Failed", Some("10.0.0.1"))), status("Failed", None), json!({"podIP": null, "podIPs": null}));
}

/// Fails the first write.
#[derive(Default)]
struct Flaky(Mutex<Vec<Value>>);

#[async_trait]
impl PodApi for Flaky {
    async fn patch_status(&self, _: &PodRef, patch: Value) -> Result<Written, String> {
        let mut patches = self.0.lock().unwrap();
        patches.push(patch);
        if patches.len() == 1 { Err("away".into()) } else { Ok(Written::Done) }
    }
    async fn delete(&self, _: &PodRef) -> Result<Written, String> {
        Ok(Written::Gone)
    }
}

#[tokio::test]
async fn a_write_that_failed_is_tried_again_with_the_newest_status() {
    let api = Arc::new(Flaky::default());
    let writer = StatusWriter::start(Arc::clone(&api) as Arc<dyn PodApi>, reference(), None);
    writer.set(status("Pending", None), None);
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.set(status("Running", None), None);
    writer.flush(Duration::from_secs(5)).await;
    let phases: Vec<String> =
        api.0.lock().unwrap().iter().map(|p| p["status"]["phase"].as_str().unwrap().to_owned()).collect();
    assert_eq!(phases, ["Pending", "Running"]);
}

#[tokio::test]
async fn a_readiness_that_somebody_else_took_is_written_again() {
    let ready = |ready: &str| -> PodStatus {
        let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-02T03:04:05Z"});
        serde_json::from_value(json!({"phase": "Running", "conditions": [condition]})).unwrap()
    };
    let api = Arc::new(Flaky::default());
    let writer = StatusWriter::start(Arc::clone(&api) as Arc<dyn PodApi>, reference(), None);
    let written = async |known: &PodStatus| {
        writer.set(ready("True"), Some(known));
        writer.flush(Duration::from_secs(5)).await;
        api.0.lock().unwrap().len()
    };
    assert_eq!(written(&ready("False")).await, 2, "the first write fails");
    assert_eq!(written(&ready("True")).await, 2);
    assert_eq!(written(&ready("False")).await, 3);
    assert_eq!(api.0.lock().unwrap()[2]["status"]["conditions"][0]["status"], "True");
    assert_eq!(written(&ready("True")).await, 3);
}
