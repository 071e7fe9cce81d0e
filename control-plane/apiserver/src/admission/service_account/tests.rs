use super::*;

#[track_caller]
fn check(mut pod: Value, expected: Value) {
    mount_token(&mut pod, "abcde");
    assert_eq!(pod["spec"], expected);
}

#[test]
fn every_container_sees_the_token() {
    let mount = json!({"name": "kube-api-access-abcde", "readOnly": true, "mountPath": TOKEN_PATH});
    check(
        json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}}),
        json!({
            "containers": [{"name": "a", "volumeMounts": [mount]}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "v", "mountPath": "/x"}, mount]}],
            "volumes": [token_volume("kube-api-access-abcde")],
        }),
    );
}

#[test]
fn a_mount_of_the_pods_own_wins() {
    let pod =
        json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]}});
    check(pod.clone(), pod["spec"].clone());
}

#[test]
fn the_pod_decides_before_the_account() {
    let check = |pod: Value, account: Value, expected: bool| {
        assert_eq!(
            mounts_token(
                &json!({"spec": {"automountServiceAccountToken": pod}}),
                &json!({"automountServiceAccountToken": account})
            ),
            expected
        );
    };
    check(Value::Null, Value::Null, true);
    check(Value::Null, json!(false), false);
    check(json!(true), json!(false), true);
    check(json!(false), json!(true), false);
}
