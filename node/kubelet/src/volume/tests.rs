use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value, json};
use xebec_types::core::Service;

use super::*;
use crate::objects::{ConfigMapData, TokenSpec};
use crate::testing;

struct Fixture;

#[async_trait]
impl Objects for Fixture {
    async fn config_map(&self, _: &str, name: &str) -> Result<ConfigMapData, ObjectError> {
        if name == "gone" {
            return Err(ObjectError::NotFound { kind: "configmap", name: name.into() });
        }
        let binary = BTreeMap::from([("b".to_owned(), vec![0, 159])]);
        Ok(ConfigMapData { text: BTreeMap::from([("k".into(), name.into())]), binary })
    }
    async fn secret(&self, _: &str, _: &str) -> Result<BTreeMap<String, Vec<u8>>, ObjectError> {
        Ok(BTreeMap::from([("password".into(), b"hunter2".to_vec())]))
    }
    async fn token(&self, _: &PodRef, spec: &TokenSpec) -> Result<String, ObjectError> {
        Ok(format!("token-{}-{}", spec.service_account, spec.audience))
    }
    async fn services(&self, _: &str) -> Vec<Service> {
        Vec::new()
    }
}

async fn mounted(volume: Value, dir: &Path) -> Result<Mounted, String> {
    let mut volume = volume;
    volume["name"] = "v".into();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"volumes": [volume], "containers": [{"name": "c"}], "serviceAccountName": "sa"},
    }))
    .unwrap();
    let mounted =
        mount_all(&pod, &testing::config(dir), &Facts::default(), &Fixture).await.map_err(|e| e.to_string())?;
    Ok(mounted["v"].clone())
}

#[tokio::test]
async fn files_follow_their_objects_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let volume = |name: &str, items: Value| json!({"configMap": {"name": name, "items": items}});
    let one = mounted(volume("first", Value::Null), dir.path()).await.unwrap();
    assert_eq!(fs::read_to_string(one.path.join("k")).unwrap(), "first");
    assert_eq!(fs::read(one.path.join("b")).unwrap(), [0, 159]);
    assert_eq!(fs::read_link(one.path.join("k")).unwrap(), Path::new("..data/k"));
    let before = fs::read_link(one.path.join("..data")).unwrap();
    mounted(volume("first", Value::Null), dir.path()).await.unwrap();
    assert_eq!(fs::read_link(one.path.join("..data")).unwrap(), before, "nothing changed, nothing is written");
    mounted(volume("second", json!([{"key": "k", "path": "deep/er", "mode": 0o400}])), dir.path()).await.unwrap();
    assert_eq!(fs::read_to_string(one.path.join("deep/er")).unwrap(), "second");
    assert_eq!(fs::metadata(one.path.join("deep/er")).unwrap().permissions().mode() & 0o777, 0o400);
    let mut names: Vec<_> =
        fs::read_dir(&one.path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "the payload, ..data and one name: {names:?}");
    assert!(names.contains(&"deep".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_mounted_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |volume: Value, want: &str| {
        let error = mounted(volume.clone(), dir.path()).await.unwrap_err();
        assert_eq!(error, format!("MountVolume.SetUp failed for volume \"v\" : {want}"), "{volume}");
    };
    check(json!({"configMap": {"name": "gone"}}), "configmap \"gone\" not found").await;
    check(
        json!({"configMap": {"name": "a", "items": [{"key": "z", "path": "z"}]}}),
        "references non-existent config key: z",
    )
    .await;
    check(
        json!({"configMap": {"name": "a", "items": [{"key": "k", "path": "../z"}]}}),
        "invalid path \"../z\" in a volume",
    )
    .await;
    check(
        json!({"hostPath": {"path": "/nothing/here", "type": "Directory"}}),
        "hostPath type check failed: /nothing/here is not a directory",
    )
    .await;
    check(
        json!({"nfs": {"server": "a", "path": "/"}}),
        "no volume plugin matched: this kind of volume is not supported",
    )
    .await;
    assert!(mounted(json!({"configMap": {"name": "gone", "optional": true}}), dir.path()).await.is_ok());
}

#[tokio::test]
async fn secrets_and_tokens_lie_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "audience": "a"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"secret": {"name": "s"}},
    ]);
    let one = mounted(json!({"projected": {"sources": sources}}), dir.path()).await.unwrap();
    let read = |name: &str| fs::read_to_string(one.path.join(name)).unwrap();
    assert_eq!([read("token"), read("labels"), read("password")], ["token-sa-a", "app=\"x\"", "hunter2"]);
    let memory = mounted(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}), dir.path()).await.unwrap();
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    for path in [&one.path, &memory.path] {
        assert!(mounts.contains(&format!("tmpfs {} tmpfs", path.display())), "{}", path.display());
    }
    unmount_below(dir.path());
    assert!(!fs::read_to_string("/proc/thread-self/mounts").unwrap().contains(&dir.path().display().to_string()));
}
