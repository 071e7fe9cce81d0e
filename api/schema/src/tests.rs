mod random;

use super::*;

#[test]
fn the_table_is_whole() {
    let schema = schema();
    assert!(schema.definitions().len() > 480, "{}", schema.definitions().len());
    for definition in schema.definitions() {
        assert!(definition.fields.is_sorted_by(|a, b| a.name < b.name), "{}", definition.name);
        for field in &definition.fields {
            if let ListType::Map(keys) = field.list_type {
                let Type::List(Type::Object(item)) = field.ty else { panic!("{}.{}", definition.name, field.name) };
                assert!(
                    keys.iter().all(|key| schema.definition(*item).field(key).is_some()),
                    "{}.{}",
                    definition.name,
                    field.name
                );
            }
        }
    }
}

#[test]
fn every_served_kind_has_a_definition() {
    let schema = schema();
    assert_eq!(schema.resources().len(), 60);
    for resource in schema.resources() {
        let definition = schema.definition(resource.def);
        assert_eq!(definition.gvk, Some((resource.group, resource.version, resource.kind)));
        if resource.verbs.contains(&"list") {
            let list = format!("{}List", resource.kind);
            assert!(schema.kind(resource.group, resource.version, &list).is_some(), "{list}");
        }
    }
}

#[test]
fn a_pod_spec_is_what_upstream_says() {
    let schema = schema();
    let spec = schema.definition(schema.by_name("io.k8s.api.core.v1.PodSpec").expect("defined"));
    let volumes = spec.field("volumes").expect("a field");
    assert_eq!(volumes.list_type, ListType::Map(&["name"]));
    assert_eq!((volumes.patch_merge_key, volumes.retain_keys, volumes.proto), (Some("name"), true, [1, 0, 0]));
    let probe = schema.definition(schema.by_name("io.k8s.api.core.v1.Probe").expect("defined"));
    assert_eq!(probe.field("httpGet").expect("a field").proto, [1, 2, 0]);
    assert_eq!(spec.go_name(), "v1.PodSpec");
    assert!(schema.kind("apps", "v1", "DeleteOptions").is_some());
}
