use super::*;
use xebec_types::core::ConfigMap;

fn object(namespace: &str, name: &str, version: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some(namespace.into());
    object.metadata.name = Some(name.into());
    object.metadata.resource_version = Some(version.into());
    object.metadata.labels = Some([("app".to_string(), name.to_string())].into());
    object
}

fn informer() -> Informer<ConfigMap> {
    let (synced, synced_rx) = watch::channel(false);
    let informer = Informer { store: RwLock::default(), dispatch: Mutex::default(), synced, synced_rx };
    informer.add_index("app", |o: &ConfigMap| o.metadata.labels.iter().flat_map(|l| l.values().cloned()).collect());
    informer
}

fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
    objects.iter().map(|o| Key::of(&o.metadata).to_string()).collect()
}

#[test]
fn a_relist_reports_only_what_differs() {
    let informer = informer();
    informer.commit(|s| s.replace(vec![object("a", "x", "1"), object("a", "y", "1"), object("b", "x", "1")]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    informer.on_change(move |change| {
        lock(&sink).push((change.key().to_string(), change.is_deletion()));
    });
    assert_eq!(std::mem::take(&mut *lock(&seen)).len(), 3, "present objects come first");
    informer.commit(|s| s.replace(vec![object("a", "x", "1"), object("a", "y", "2"), object("c", "z", "3")]));
    let expected = [("b/x".to_string(), true), ("a/y".into(), false), ("c/z".into(), false)];
    assert_eq!(*lock(&seen), expected);
    assert_eq!(names(&informer.list()), ["a/x", "a/y", "c/z"]);
    assert_eq!(names(&informer.list_namespace("a")), ["a/x", "a/y"]);
    assert_eq!(names(&informer.by_index("app", "x")), ["a/x"]);
    assert_eq!(informer.read().len(), 3);
}

#[tokio::test]
async fn a_subscription_names_each_key_once() {
    let informer = informer();
    informer.apply(object("a", "x", "1"));
    let mut subscription = informer.subscribe();
    informer.apply(object("a", "x", "2"));
    informer.apply(object("a", "y", "3"));
    let keys: Vec<String> = subscription.changed().await.iter().map(Key::to_string).collect();
    assert_eq!(keys, ["a/x", "a/y"]);
}
