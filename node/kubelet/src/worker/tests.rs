//! Pods over a real containerd.

use std::time::Instant;

use serde_json::{Value, json};
use xebec_cri::testing::BUSYBOX_IMAGE;

use super::*;
use crate::config::{Config, Withdraw};
use crate::machine::Machine;
use crate::recorder::Recorder;
use crate::runtime::{Fake, Runtime};
use crate::testing::world::{Api, Fixture, World, pod, ready, run};
use crate::{pleg, testing};

fn state(status: &Value, index: usize) -> &Value {
    &status["containerStatuses"][index]["state"]
}

#[test]
fn a_pod_lives_as_its_spec_says_and_leaves_nothing() {
    run(async {
        let world = World::start().await;
        let script = "echo $GREETING $(cat /cm/k) $(cat /secret/password) $(cat /var/run/token/token); id -u; hostname; \
                      echo last words > /dev/termination-log; grep -c podlives /etc/hosts; trap 'echo bye; exit 0' TERM; touch /shared/up; \
                      while true; do sleep 0.1; done";
        let script = script.replace("grep -c", "cat /etc/hosts | busybox grep -c").replace("busybox ", "/bin/busybox ");
        let spec = json!({
            "hostname": "podlives",
            "containers": [{
                "name": "a", "command": ["sh", "-c", script],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "GREETING", "value": "at-$(IP)"}],
                "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
                "readinessProbe": {"exec": {"command": ["cat", "/shared/up"]}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "cm", "mountPath": "/cm"}, {"name": "secret", "mountPath": "/secret"},
                    {"name": "token", "mountPath": "/var/run/token"}, {"name": "shared", "mountPath": "/shared", "subPath": "sub"},
                ],
            }, {"name": "b", "command": ["sh", "-c", "sleep 100000"]}],
            "volumes": [
                {"name": "cm", "configMap": {"name": "c"}}, {"name": "secret", "secret": {"secretName": "s"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "shared", "emptyDir": {"medium": "Memory"}},
            ],
            "securityContext": {"fsGroup": 2000},
            "terminationGracePeriodSeconds": 5,
        });
        let lives = pod("podlives", spec);
        let started = Instant::now();
        world.apply(&lives);
        let pending = world.until("podlives", "pending", |s| s["phase"] == "Pending").await;
        assert_eq!(state(&pending, 0)["waiting"]["reason"], "ContainerCreating");
        world.until("podlives", "running", |s| s["phase"] == "Running").await;
        eprintln!("two containers running after {:?}", started.elapsed());
        let status = world.until("podlives", "ready", ready).await;
        eprintln!("ready after {:?}", started.elapsed());
        assert_eq!(
            (&status["podIP"], &status["hostIP"], &status["qosClass"]),
            (&json!("127.9.9.9"), &json!("127.0.0.1"), &json!("Burstable"))
        );
        let log = world.log("podlives", "a", 0);
        assert_eq!(log, "at-127.9.9.9 from-config hunter2 a-token\n1000\npodlives\n1");
        let memory = format!("/sys/fs/cgroup/memory{}/burstable/podpodlives", world.config.cgroup_root);
        assert!(std::fs::read_dir(&memory).unwrap().count() > 2);
        let stopping = Instant::now();
        world.delete(lives, 5);
        world.gone("podlives").await;
        eprintln!("deleted after {:?}", stopping.elapsed());
        let last = world.status("podlives");
        let a = &state(&last, 0)["terminated"];
        assert_eq!(
            (&a["exitCode"], &a["message"], &last["phase"]),
            (&json!(0), &json!("last words\n"), &json!("Failed")),
            "{last:#}"
        );
        assert_eq!(state(&last, 1)["terminated"]["exitCode"], 137);
    });
}

#[test]
fn containers_that_cannot_run_say_why() {
    run(async {
        let world = World::start().await;
        let one = |name: &str, container: Value| {
            let mut container = container;
            container["name"] = "c".into();
            world.apply(&pod(name, json!({"containers": [container]})));
        };
        one("never", json!({"image": "absent:1", "imagePullPolicy": "Never"}));
        one("pull", json!({"image": "registry.invalid/absent:1", "imagePullPolicy": "Always"}));
        one("badname", json!({"image": "UPPER//x"}));
        one(
            "config",
            json!({"command": ["true"], "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k"}}}]}),
        );
        one("crash", json!({"command": ["sh", "-c", "exit 3"]}));
        one("nocommand", json!({"command": ["/nothing"]}));
        one(
            "oom",
            json!({"command": ["sh", "-c", "x=a; while true; do x=$x$x; done"], "resources": {"limits": {"memory": "16Mi"}}}),
        );
        one("root", json!({"command": ["true"], "securityContext": {"runAsNonRoot": true}}));
        world.apply(&pod(
            "volume",
            json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "configMap": {"name": "gone"}}]}),
        ));
        // As they were then: a container that crashes is started again.
        let mut seen = std::collections::HashMap::new();
        for (uid, reason) in [
            ("pull", "ErrImagePull"),
            ("never", "ErrImageNeverPull"),
            ("pull", "ImagePullBackOff"),
            ("badname", "InvalidImageName"),
            ("config", "CreateContainerConfigError"),
            ("crash", "CrashLoopBackOff"),
            ("nocommand", "RunContainerError"),
            ("root", "CreateContainerConfigError"),
            ("oom", "CrashLoopBackOff"),
        ] {
            let status = world.until(uid, reason, |s| state(s, 0)["waiting"]["reason"] == reason).await;
            seen.insert(uid, status);
        }
        let crash = &seen["crash"];
        let c = &crash["containerStatuses"][0];
        assert_eq!(c["lastState"]["terminated"]["exitCode"], 3, "{crash:#}");
        assert!(c["restartCount"].as_u64().unwrap() > 0, "{crash:#}");
        assert!(
            c["state"]["waiting"]["message"]
                .as_str()
                .unwrap()
                .ends_with("0s restarting failed container=c pod=crash_ns(crash)")
        );
        assert_eq!(seen["oom"]["containerStatuses"][0]["lastState"]["terminated"]["reason"], "OOMKilled");
        assert_eq!(crash["phase"], "Running");
        let deadline = Instant::now() + Duration::from_secs(10);
        for event in [
            "Warning BackOff Back-off restarting failed container c in pod crash_ns(crash)",
            "Warning FailedMount MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found",
            "Warning Failed Error: configmap \"gone\" not found",
            "Normal Pulled Container image",
            "Warning Failed Failed to pull image \"registry.invalid/absent:1\"",
        ] {
            while !world.saw(event) {
                assert!(Instant::now() < deadline, "no {event} in {:#?}", world.events.lock().unwrap());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for uid in ["never", "crash", "volume", "config"] {
            let pod = json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid}, "spec": {"containers": [{"name": "c", "image": BUSYBOX_IMAGE}]}});
            world.delete(pod, 1);
            world.gone(uid).await;
        }
    });
}

#[test]
fn init_containers_hooks_and_probes_take_their_turns() {
    run(async {
        let world = World::start().await;
        let spec = json!({
            "initContainers": [
                {"name": "first", "command": ["sh", "-c", "echo 1 >> /d/order"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
                {"name": "side", "restartPolicy": "Always", "command": ["sh", "-c", "echo side >> /d/order; sleep 100000"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
                {"name": "second", "command": ["sh", "-c", "echo 2 >> /d/order"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
            ],
            "containers": [{
                "name": "c", "command": ["sh", "-c", "cat /d/order; touch /d/alive; trap 'sleep 0.2; exit 0' TERM; while true; do sleep 0.1; done"],
                "volumeMounts": [{"name": "d", "mountPath": "/d"}],
                "startupProbe": {"exec": {"command": ["cat", "/d/alive"]}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": ["cat", "/d/alive"]}, "periodSeconds": 1, "failureThreshold": 1},
                "lifecycle": {
                    "postStart": {"exec": {"command": ["sh", "-c", "echo post >> /d/hooks"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /d/hooks"]}},
                },
            }],
            "volumes": [{"name": "d", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 5,
        });
        let turns = pod("turns", spec);
        world.apply(&turns);
        let status = world.until("turns", "ready", ready).await;
        assert_eq!(world.log("turns", "c", 0), "1\nside\n2");
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
        assert_eq!(status["initContainerStatuses"][1]["started"], true);
        let dir = world.config.pod_dir("turns").join("volumes/kubernetes.io~empty-dir/d");
        std::fs::remove_file(dir.join("alive")).unwrap();
        world
            .until("turns", "restarted by its liveness probe", |s| {
                s["containerStatuses"][0]["restartCount"] == 1 && ready(s)
            })
            .await;
        assert!(world.saw("Normal Killing Container c failed liveness probe, will be restarted"));
        assert!(world.saw("Warning Unhealthy Liveness probe failed: cat: can't open"));
        assert_eq!(std::fs::read_to_string(dir.join("hooks")).unwrap(), "post\npre\npost\n");
        world.delete(turns, 5);
        world.gone("turns").await;

        let done = pod(
            "done",
            json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["true"]}, {"name": "d", "command": ["false"]}]}),
        );
        world.apply(&done);
        world.until("done", "failed", |s| s["phase"] == "Failed").await;
        world.until("done", "without its cgroup", |_| crate::cgroup::list(&world.config.cgroup_root).is_empty()).await;
        world.delete(done, 1);
        world.gone("done").await;
    });
}

#[test]
fn pods_outlive_the_kubelet_and_containerd() {
    run(async {
        let mut world = World::start().await;
        let spec = json!({"containers": [{"name": "c", "command": ["sleep", "100000"], "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}], "terminationGracePeriodSeconds": 1});
        let (stays, goes) = (pod("stays", spec.clone()), pod("goes", spec));
        world.apply(&stays);
        world.apply(&goes);
        let before = world.until("stays", "ready", ready).await;
        world.until("goes", "ready", ready).await;
        world.restart_kubelet();
        let mut known = stays.clone();
        known["status"] = before.clone();
        world.apply(&known);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = world.status("stays");
        assert_eq!(after["containerStatuses"][0]["containerID"], before["containerStatuses"][0]["containerID"]);
        assert!(ready(&after));
        // The other pod was deleted while no kubelet ran.
        crate::gc::collect(&world.kubelet).await;
        assert!(world.kubelet.runtime.list_pod_sandbox(Some("goes")).await.unwrap().is_empty());
        crate::gc::collect(&world.kubelet).await;
        assert!(!world.config.pod_dir("goes").exists());
        world.containerd.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.containerd.run().await;
        // A container that dies after containerd came back is noticed and restarted.
        let id = before["containerStatuses"][0]["containerID"]
            .as_str()
            .unwrap()
            .trim_start_matches("containerd://")
            .to_owned();
        assert_eq!(world.status("stays")["containerStatuses"][0]["restartCount"], 0);
        world.kubelet.runtime.stop_container(&id, Duration::from_secs(0)).await.unwrap();
        world.until("stays", "restarted", |s| s["containerStatuses"][0]["restartCount"] == 1 && ready(s)).await;
        world.delete(stays, 1);
        world.gone("stays").await;
    });
}

#[test]
fn a_debugger_sees_its_targets_processes_and_limits_change_in_place() {
    run(async {
        let world = World::start().await;
        let resources = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
        let container = json!({"name": "c", "command": ["sleep", "100000"], "resources": resources("100m", "64Mi")});
        let mut object = pod("debugged", json!({"containers": [container], "terminationGracePeriodSeconds": 1}));
        world.apply(&object);
        let status = world.until("debugged", "ready", ready).await;
        let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().trim_start_matches("containerd://");
        object["spec"]["containers"][0]["resources"] = resources("200m", "96Mi");
        world.apply(&object);
        let has = |s: &Value| s["containerStatuses"][0]["resources"]["limits"]["cpu"] == "200m";
        let status = world.until("debugged", "resized", has).await;
        assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
        let pod_dir = format!("{}/poddebugged", world.config.cgroup_root);
        for (hierarchy, file, v2, expected) in [
            ("cpu", "cpu.cfs_quota_us", "cpu.max", "20000"),
            ("memory", "memory.limit_in_bytes", "memory.max", "100663296"),
        ] {
            for group in [pod_dir.clone(), format!("{pod_dir}/{id}")] {
                let v1 = std::fs::read_to_string(format!("/sys/fs/cgroup/{hierarchy}{group}/{file}"));
                let text = v1.or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup{group}/{v2}"))).unwrap();
                assert_eq!(text.split_whitespace().next(), Some(expected), "{file} of {group}");
            }
        }
        let command = json!(["sh", "-c", "cat /proc/1/cmdline; exit 3"]);
        object["spec"]["ephemeralContainers"] =
            json!([{"name": "debugger", "image": BUSYBOX_IMAGE, "command": command, "targetContainerName": "c"}]);
        world.apply(&object);
        let ended = |s: &Value| s["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3;
        world.until("debugged", "ended its debugger", ended).await;
        assert!(world.log("debugged", "debugger", 0).starts_with("sleep"));
        world.delete(object, 1);
        world.gone("debugged").await;
    });
}

/// A kubelet over the fake runtime: no root, no containerd.
fn hollow(config: Config) -> (Arc<Kubelet>, Arc<Fake>, Arc<Api>, tokio::task::JoinSet<()>) {
    let (fake, api) = (Fake::new([10, 0, 0, 1].into()), Arc::new(Api::default()));
    let recorder = Recorder::Kept(Arc::default());
    let (runtime, fixture) = (Arc::clone(&fake) as Arc<dyn Runtime>, Arc::new(Fixture));
    let (objects, api_of_pods) = (Arc::clone(&fixture) as _, Arc::clone(&api) as _);
    let kubelet = Kubelet::new(config, Machine::default(), runtime, objects, api_of_pods, fixture, recorder);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(pleg::run(Arc::clone(&kubelet)));
    (kubelet, fake, api, tasks)
}

#[tokio::test]
async fn hollow_pods_run_restart_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (kubelet, fake, api, _tasks) = hollow(testing::config(dir.path()));
    let spec = json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
    let mut object = pod("hollow", spec);
    let until = async |what: &str, done: &dyn Fn(&Value) -> bool| {
        for _ in 0..1000 {
            let status = api.statuses.lock().unwrap().get("hollow").cloned().unwrap_or_default();
            if done(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {what}");
    };
    kubelet.update(Arc::new(serde_json::from_value(object.clone()).unwrap()), false);
    let status = until("ready", &|s| ready(s)).await;
    let id =
        status["containerStatuses"][0]["containerID"].as_str().unwrap().trim_start_matches("containerd://").to_owned();
    fake.exit(&id, 1);
    until("restarted", &|s| s["containerStatuses"][0]["restartCount"] == 1 && ready(s)).await;
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    kubelet.update(Arc::new(serde_json::from_value(object).unwrap()), false);
    while kubelet.known("hollow") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(api.deleted.lock().unwrap().contains("hollow"));
    assert!(fake.list_pod_sandbox(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pod_does_not_run_without_the_devices_that_it_claims() {
    let dir = tempfile::tempdir().unwrap();
    let (kubelet, fake, _api, _tasks) = hollow(testing::config(dir.path()));
    let claims = json!([{"name": "gpu", "resourceClaimName": "c"}]);
    let mut object = pod("claims", json!({"containers": [{"name": "c"}], "resourceClaims": claims}));
    kubelet.update(Arc::new(serde_json::from_value(object.clone()).unwrap()), false);
    let Recorder::Kept(events) = &kubelet.recorder else { panic!("events are kept") };
    const WHY: &str = "Warning FailedPrepareDynamicResources Failed to prepare dynamic resources: claims [gpu]: no DRA driver can register on this node";
    let deadline = Instant::now() + Duration::from_secs(10);
    while !events.lock().unwrap().iter().any(|event| event.contains(WHY)) {
        assert!(Instant::now() < deadline, "{:?}", events.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fake.list_pod_sandbox(None).await.unwrap().is_empty());
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    kubelet.update(Arc::new(serde_json::from_value(object).unwrap()), false);
    while kubelet.known("claims") {
        assert!(Instant::now() < deadline, "the pod does not go");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_running_pod_is_resized_in_place_or_by_a_restart_and_debugged() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { capacity_milli_cpu: Some(4000), capacity_memory_bytes: Some(1 << 30), ..testing::config(dir.path()) };
    let (kubelet, fake, api, _tasks) = hollow(config);
    let until = async |what: &str, done: &dyn Fn(&Value) -> bool| {
        for _ in 0..1000 {
            let status = api.statuses.lock().unwrap().get("sized").cloned().unwrap_or_default();
            if done(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {what}: {:#}", api.statuses.lock().unwrap()["sized"]);
    };
    let apply = |cpu: &str, memory: &str, ephemeral: Value| {
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let resources = json!({"requests": {"cpu": cpu, "memory": memory}});
        let spec = json!({"containers": [{"name": "c", "resizePolicy": policy, "resources": resources}], "ephemeralContainers": ephemeral});
        kubelet.update(Arc::new(serde_json::from_value(pod("sized", spec)).unwrap()), false);
    };
    let condition = |status: &Value, kind: &str| -> String {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|c| c["type"] == kind && c["$patch"].is_null());
        found.map(|c| c["reason"].as_str().unwrap_or("-").to_owned()).unwrap_or_default()
    };
    apply("1", "1Mi", Value::Null);
    let first = until("ready", &|s| ready(s)).await;
    assert_eq!(first["containerStatuses"][0]["allocatedResources"]["cpu"], "1");
    apply("2", "1Mi", Value::Null);
    let in_place = until("resized", &|s| s["containerStatuses"][0]["resources"]["requests"]["cpu"] == "2").await;
    assert_eq!(in_place["containerStatuses"][0]["containerID"], first["containerStatuses"][0]["containerID"]);
    let id =
        first["containerStatuses"][0]["containerID"].as_str().unwrap().trim_start_matches("containerd://").to_owned();
    let shares = fake.container_status(&id).await.unwrap().resources.unwrap().linux.unwrap().cpu_shares;
    assert_eq!(shares, 2048);
    apply("2", "2Mi", Value::Null);
    let restarted = until("restarted", &|s| s["containerStatuses"][0]["restartCount"] == 1 && ready(s)).await;
    assert_eq!(restarted["containerStatuses"][0]["resources"]["requests"]["memory"], "2Mi");
    apply("5", "2Mi", Value::Null);
    let refused = until("refused", &|s| condition(s, "PodResizePending") == "Infeasible").await;
    assert_eq!(refused["containerStatuses"][0]["allocatedResources"]["cpu"], "2");
    apply("2", "2Mi", Value::Null);
    until("content again", &|s| condition(s, "PodResizePending").is_empty()).await;

    apply("2", "2Mi", json!([{"name": "debugger", "image": "i:1", "targetContainerName": "c"}]));
    let status = until("debugged", &|s| s["ephemeralContainerStatuses"][0]["state"]["running"].is_object()).await;
    assert_eq!((&status["ephemeralContainerStatuses"][0]["ready"], ready(&status)), (&json!(false), true));
    let id = status["ephemeralContainerStatuses"][0]["containerID"].as_str().unwrap();
    fake.exit(id.trim_start_matches("containerd://"), 3);
    let exit = |s: &Value| s["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3;
    let status = until("ended", &exit).await;
    assert_eq!(status["ephemeralContainerStatuses"][0]["restartCount"], 0);
}

/// Load balancers that let go when they are told to.
struct Balancers {
    outcome: Withdrawal,
    go: Notify,
}

#[async_trait::async_trait]
impl Withdraw for Balancers {
    async fn withdraw(&self, _: &PodRef, _: Duration) -> Withdrawal {
        self.go.notified().await;
        self.outcome.clone()
    }
}

/// The condition of a deleted pod after its withdrawal ended so.
async fn check_withdrawal(outcome: Withdrawal, expected: Option<(&str, &str)>) {
    let dir = tempfile::tempdir().unwrap();
    let balancers = Arc::new(Balancers { outcome, go: Notify::new() });
    let withdraw = Arc::clone(&balancers) as Arc<dyn Withdraw>;
    let config = Config { withdraw: Some(withdraw), ..testing::config(dir.path()) };
    let (kubelet, fake, api, _tasks) = hollow(config);
    let mut object = pod("served", json!({"containers": [{"name": "c"}]}));
    let status = || api.statuses.lock().unwrap().get("served").cloned().unwrap_or_default();
    kubelet.update(Arc::new(serde_json::from_value(object.clone()).unwrap()), false);
    while !ready(&status()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    kubelet.update(Arc::new(serde_json::from_value(object).unwrap()), false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let containers = fake.list_containers(Some("served")).await.unwrap();
    let running = xebec_cri::v1::ContainerState::ContainerRunning as i32;
    assert!(containers.iter().all(|c| c.state == running), "nothing stops before balancers have let go");
    balancers.go.notify_one();
    while kubelet.known("served") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = status();
    let conditions = status["conditions"].as_array().unwrap();
    let withdrawn = conditions.iter().find(|c| c["type"] == "xebec.io/WithdrawnFromServices");
    let found = withdrawn.map(|c| (c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()));
    assert_eq!(found, expected, "{status:#}");
}

#[tokio::test]
async fn a_deleted_pod_stops_after_its_withdrawal_and_says_how_that_ended() {
    check_withdrawal(Withdrawal::Acknowledged, Some(("True", "AllNodesAcknowledged"))).await;
    check_withdrawal(Withdrawal::TimedOut("n2".into()), Some(("False", "NotAcknowledged"))).await;
    check_withdrawal(Withdrawal::NotServed, None).await;
}

#[tokio::test]
async fn a_pod_that_the_node_ends_has_failed_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (kubelet, fake, api, _tasks) = hollow(testing::config(dir.path()));
    let until = async |uid: &str, reason: &str| {
        for _ in 0..1000 {
            let status = api.statuses.lock().unwrap().get(uid).cloned().unwrap_or_default();
            if status["reason"] == reason {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{uid} never ended by {reason}");
    };
    let apply = |name: &str, spec| {
        kubelet.update(Arc::new(serde_json::from_value(pod(name, spec)).unwrap()), false);
    };
    apply("late", json!({"activeDeadlineSeconds": 1, "containers": [{"name": "c"}]}));
    let late = until("late", "DeadlineExceeded").await;
    assert_eq!(late["phase"], "Failed", "{late:#}");
    assert_eq!(late["message"], "Pod was active on the node longer than the specified deadline");

    apply("evicted", json!({"terminationGracePeriodSeconds": 100, "containers": [{"name": "c"}]}));
    while fake.list_containers(Some("evicted")).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kubelet.end_pod("evicted", Ended { reason: "Evicted", message: "low".to_owned(), evicted: true });
    let evicted = until("evicted", "Evicted").await;
    assert_eq!((&evicted["phase"], &evicted["message"]), (&json!("Failed"), &json!("low")));
    let conditions = evicted["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionTarget" && c["reason"] == "TerminationByKubelet"));
    let running = xebec_cri::v1::ContainerState::ContainerRunning as i32;
    assert!(fake.list_containers(None).await.unwrap().iter().all(|c| c.state != running));
}
