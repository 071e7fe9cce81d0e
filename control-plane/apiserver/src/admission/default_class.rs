//! Claims and ingresses that name no class get the one that is marked as default
//! (`plugin/pkg/admission/storage/storageclass/setdefault`, `plugin/pkg/admission/network/defaultingressclass`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_registry::value::{at, is_set, set, string};

use super::{Attributes, Operation, Plugin, Reader};

pub struct DefaultStorageClass;
pub struct DefaultIngressClass;

const STORAGE: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        let beta = "volume.beta.kubernetes.io/storage-class";
        if !attributes.is("", "persistentvolumeclaims") || has_class(&attributes.object, "spec.storageClassName", beta)
        {
            return Ok(());
        }
        if let Some(class) = default_of(&reader.list("storage.k8s.io", "storageclasses", "").await?, &STORAGE) {
            set(&mut attributes.object, "spec.storageClassName", class);
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        let ingress = attributes.is("networking.k8s.io", "ingresses");
        if !ingress || has_class(&attributes.object, "spec.ingressClassName", "kubernetes.io/ingress.class") {
            return Ok(());
        }
        if let Some(class) = default_of(&reader.list("networking.k8s.io", "ingressclasses", "").await?, &INGRESS) {
            set(&mut attributes.object, "spec.ingressClassName", class);
        }
        Ok(())
    }
}

/// An empty name is a name: it asks for no class.
fn has_class(object: &Value, field: &str, annotation: &str) -> bool {
    is_set(object, field) || at(object, "metadata.annotations").get(annotation).is_some()
}

/// The default; the newest of several, then the first by name.
fn default_of(classes: &[Value], annotations: &[&str]) -> Option<String> {
    let marked = |class: &&Value| {
        annotations.iter().any(|key| at(class, "metadata.annotations").get(key).is_some_and(|v| v == "true"))
    };
    let newest_first = |a: &&Value, b: &&Value| {
        let created = |class: &Value| string(class, "metadata.creationTimestamp").to_owned();
        created(b).cmp(&created(a)).then_with(|| object::name(a).cmp(object::name(b)))
    };
    classes.iter().filter(marked).min_by(newest_first).map(|class| object::name(class).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_default_wins() {
        let class = |name: &str, created: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {STORAGE[0]: default}}});
        let check = |classes: &[Value], expected: Option<&str>| {
            assert_eq!(default_of(classes, &STORAGE).as_deref(), expected);
        };
        check(&[], None);
        check(&[class("a", "2026-01-01T00:00:00Z", "false")], None);
        let (old, new) = (class("old", "2026-01-01T00:00:00Z", "true"), class("new", "2026-01-02T00:00:00Z", "true"));
        check(&[old.clone(), new], Some("new"));
        check(&[old, class("a", "2026-01-01T00:00:00Z", "true")], Some("a"));
    }

    #[test]
    fn the_empty_class_is_a_choice() {
        let check = |object: Value, expected: bool| {
            assert_eq!(has_class(&object, "spec.storageClassName", "old"), expected, "{object}");
        };
        check(json!({"spec": {}}), false);
        check(json!({"spec": {"storageClassName": ""}}), true);
        check(json!({"metadata": {"annotations": {"old": ""}}}), true);
    }
}
