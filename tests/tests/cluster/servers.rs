//! Control planes without nodes: several servers on one etcd, and what survives the loss of a data directory.

use xebec_tests::{Etcd, Kubectl, Place, eventually};

const QUICK: &[&str] =
    &["--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=500ms"];

fn holder(kubectl: &Kubectl, lease: &str) -> Result<String, String> {
    let path = "{.spec.holderIdentity}";
    let holder = kubectl.run(&format!("get lease -n kube-system {lease} -o jsonpath={path}"), None)?;
    if holder.is_empty() { Err(format!("nobody holds {lease}")) } else { Ok(holder) }
}

fn replicas(kubectl: &Kubectl, name: &str, expected: usize) -> Result<(), String> {
    let pods = kubectl.run(&format!("get pods -l app={name} -o name"), None)?;
    if pods.lines().count() == expected { Ok(()) } else { Err(pods) }
}

#[test]
fn another_server_leads_when_the_leader_is_killed() {
    let etcd = Etcd::start();
    let first = Place::new(Some(&etcd));
    let leader = first.serve(QUICK);
    let leases = ["kube-controller-manager", "kube-scheduler"];
    let before = leases.map(|lease| eventually(lease, 20, || holder(&first.kubectl(), lease)));
    let second = Place::beside(&first, &etcd);
    let follower = second.serve(QUICK);
    let kubectl = second.kubectl();
    kubectl.ok("create deployment before --image=none --replicas=2");
    eventually("pods of the first leader", 20, || replicas(&kubectl, "before", 2));
    let identity = std::fs::read_to_string(second.data().join("identity")).expect("an identity");
    assert!(before.iter().all(|holder| !identity.starts_with(holder.as_str())), "{before:?}: {identity}");

    leader.kill();
    kubectl.ok("create deployment after --image=none --replicas=3");
    eventually("pods of the second leader", 30, || replicas(&kubectl, "after", 3));
    for (lease, before) in leases.iter().zip(&before) {
        // Each lease ends when it ends: the controllers' may have another holder while the scheduler's still has the dead one.
        eventually("another holder", 20, || match holder(&kubectl, lease)? {
            now if identity.starts_with(&now) => Ok(()),
            now => Err(format!("{lease}: {now}, before {before}")),
        });
    }

    // One that stops in order says so: the next need not wait.
    let again = first.serve(&["--leader-elect-lease-duration=600s"]);
    follower.stop();
    let kubectl = first.kubectl();
    kubectl.ok("scale deployment after --replicas=5");
    eventually("pods of the first server again", 20, || replicas(&kubectl, "after", 5));
    drop(again);
}

#[test]
fn a_leader_that_comes_back_does_not_wait_for_itself() {
    let place = Place::new(None);
    let flags = ["--leader-elect-lease-duration=600s"];
    let server = place.serve(&flags);
    eventually("a leader", 20, || holder(&place.kubectl(), "kube-controller-manager"));
    server.kill();
    let _server = place.serve(&flags);
    place.kubectl().ok("create deployment d --image=none --replicas=2");
    eventually("pods", 20, || replicas(&place.kubectl(), "d", 2));
}

#[test]
fn a_backup_brings_back_a_destroyed_control_plane() {
    let etcd = Etcd::start();
    survives(&Place::new(None));
    survives(&Place::new(Some(&etcd)));
}

fn survives(place: &Place) {
    let server = place.serve(&[]);
    let kubectl = place.kubectl();
    kubectl.ok("create configmap kept --from-literal=a=1");
    kubectl.ok("create secret generic kept --from-literal=password=hush");
    let token = kubectl.ok("create token default -n default");
    let backups = tempfile::tempdir().expect("make a directory");
    let (file, beyond) = (backups.path().join("backup"), backups.path().join("damaged"));
    // While the server runs.
    place.ok("backup", &[&file]);
    kubectl.ok("create configmap lost --from-literal=a=1");
    assert!(!place.run("restore", &[&file]).status.success(), "restored under a running server");
    server.kill();
    let whole = std::fs::read(&file).expect("the backup");
    std::fs::write(&beyond, &whole[..whole.len() / 2]).expect("half of it");
    assert!(!place.run("restore", &["--force".as_ref(), &beyond]).status.success(), "restored half a backup");
    assert!(!place.run("restore", &[&file]).status.success(), "restored over what was there");

    std::fs::remove_dir_all(place.data()).expect("destroy the data directory");
    place.ok("restore", &["--force".as_ref(), &file]);
    let _server = place.serve(&[]);
    // The kubeconfig was written anew, by the certificate authority of before.
    assert_eq!(kubectl.ok("get configmap kept -o jsonpath={.data.a}"), "1");
    assert_eq!(kubectl.ok("get secret kept -o jsonpath={.data.password}"), "aHVzaA==");
    kubectl.fails("get configmap lost", None);
    // A token of before the loss is still one: its key came back too.
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.trim()},
    });
    let user = kubectl.ok_with("create -f - --validate=false -o jsonpath={.status.user.username}", &review.to_string());
    assert_eq!(user, "system:serviceaccount:default:default");
    kubectl.ok("create deployment d --image=none --replicas=2");
    eventually("pods", 20, || replicas(&kubectl, "d", 2));
}
