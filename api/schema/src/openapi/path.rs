//! The paths of a resource.

use serde_json::{Map, Value};

use super::operation::Operation;
use super::parameter::{self, Parameters};
use super::types::Types;
use crate::{Resource, Subresource};

/// Adds the paths of a resource and of its subresources.
pub(super) fn add(resource: &Resource, types: &mut Types, paths: &mut Map<String, Value>) {
    let root = format!("/{}", super::path_of(&resource.group_version()));
    let plural = resource.plural;
    let collection = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let mut builder = Builder { resource, types, paths, scope: if resource.namespaced { "Namespaced" } else { "" } };
    builder.collection(&collection);
    builder.item(&format!("{collection}/{{name}}"));
    for subresource in resource.subresources {
        builder.subresource(&format!("{collection}/{{name}}/{}", subresource.name), subresource);
    }
    if resource.namespaced && resource.verbs.contains(&"list") {
        builder.everywhere(&format!("{root}/{plural}"));
    }
}

struct Builder<'a> {
    resource: &'a Resource,
    types: &'a mut Types,
    paths: &'a mut Map<String, Value>,
    scope: &'static str,
}

/// `CoreV1`, `RbacAuthorizationV1`: how operation ids name a group and version.
fn camel(resource: &Resource) -> String {
    let group = match resource.group.strip_suffix(".k8s.io").unwrap_or(resource.group) {
        "" => "core",
        group => group,
    };
    group.split('.').chain([resource.version]).map(capital).collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

impl Builder<'_> {
    fn operation(&self, verb: &str, action: &'static str, parameters: Parameters, suffix: &str) -> Operation<'static> {
        let Resource { group, version, kind, .. } = *self.resource;
        let tag = format!(
            "{}_{version}",
            match group.split('.').next() {
                Some("") | None => "core",
                Some(group) => group,
            }
        );
        Operation {
            action,
            id: format!("{verb}{}{}{kind}{suffix}", camel(self.resource), self.scope),
            tag,
            gvk: (group, version, kind),
            parameters,
            body: None,
            response: None,
        }
    }

    fn insert(&mut self, path: &str, operations: Vec<(&str, Operation<'_>)>) {
        let dialect = self.types.dialect;
        let mut made: Map<String, Value> =
            operations.into_iter().map(|(method, op)| (method.to_owned(), op.render(dialect))).collect();
        if !made.is_empty() {
            made.insert("parameters".into(), parameter::of_path(dialect, path));
            self.paths.insert(path.to_owned(), made.into());
        }
    }

    fn has(&self, verb: &str) -> bool {
        self.resource.verbs.contains(&verb)
    }

    fn own(&mut self) -> Value {
        let Resource { group, version, kind, def, .. } = *self.resource;
        self.types.kind(group, version, kind).unwrap_or_else(|| self.types.reference(def))
    }

    fn other(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        self.types.kind(group, version, kind)
    }

    fn list(&mut self, suffix: &str) -> Operation<'static> {
        let Resource { group, version, kind, .. } = *self.resource;
        let response = self.other(group, version, &format!("{kind}List"));
        Operation { response, ..self.operation("list", "list", parameter::LIST, suffix) }
    }

    fn everywhere(&mut self, path: &str) {
        self.scope = "";
        let list = self.list("ForAllNamespaces");
        self.insert(path, vec![("get", list)]);
    }

    fn collection(&mut self, path: &str) {
        let mut operations = Vec::new();
        if self.has("list") {
            operations.push(("get", self.list("")));
        }
        if self.has("create") {
            let body = Some(self.own());
            let create = self.operation("create", "post", parameter::WRITE, "");
            operations.push(("post", Operation { response: body.clone(), body, ..create }));
        }
        if self.has("deletecollection") {
            let delete = self.operation("deleteCollection", "deletecollection", parameter::DELETE_COLLECTION, "");
            let body = self.other("", "v1", "DeleteOptions");
            let response = self.other("", "v1", "Status");
            operations.push(("delete", Operation { body, response, ..delete }));
        }
        self.insert(path, operations);
    }

    fn item(&mut self, path: &str) {
        let mut operations = self.reads_and_writes(self.resource.verbs, "", None);
        if self.has("delete") {
            let delete = self.operation("delete", "delete", parameter::DELETE, "");
            let body = self.other("", "v1", "DeleteOptions");
            let response = self.other("", "v1", "Status");
            operations.push(("delete", Operation { body, response, ..delete }));
        }
        self.insert(path, operations);
    }

    /// Get, replace and patch, as far as `verbs` go, of the object or of a subresource.
    fn reads_and_writes(
        &mut self,
        verbs: &[&str],
        suffix: &str,
        gvk: Option<(&'static str, &'static str, &'static str)>,
    ) -> Vec<(&'static str, Operation<'static>)> {
        let own = (self.resource.group, self.resource.version, self.resource.kind);
        let (group, version, kind) = gvk.unwrap_or(own);
        let object = self.other(group, version, kind);
        let named = |op: Operation<'static>| Operation { gvk: (group, version, kind), response: object.clone(), ..op };
        let mut operations = Vec::new();
        if verbs.contains(&"get") {
            operations.push(("get", named(self.operation("read", "get", &[], suffix))));
        }
        if verbs.contains(&"update") {
            let replace = named(self.operation("replace", "put", parameter::WRITE, suffix));
            operations.push(("put", Operation { body: object.clone(), ..replace }));
        }
        if verbs.contains(&"patch") {
            let patch = named(self.operation("patch", "patch", parameter::PATCH, suffix));
            operations.push(("patch", Operation { body: Some(self.types.patch()), ..patch }));
        }
        operations
    }

    fn subresource(&mut self, path: &str, subresource: &Subresource) {
        let suffix = capital(subresource.name);
        let connect: Option<Parameters> = match subresource.name {
            "exec" | "attach" => Some(parameter::EXEC),
            "portforward" => Some(parameter::PORT_FORWARD),
            "proxy" => Some(parameter::PROXY),
            _ => None,
        };
        let mut operations = Vec::new();
        if let Some(parameters) = connect {
            let gvk = subresource.gvk.unwrap_or_default();
            let methods = [
                ("get", "connectGet", "get"),
                ("post", "connectPost", "create"),
                ("put", "connectPut", "update"),
                ("patch", "connectPatch", "patch"),
                ("delete", "connectDelete", "delete"),
            ];
            for (method, verb, _) in methods.into_iter().filter(|(.., verb)| subresource.verbs.contains(verb)) {
                let operation = self.operation(verb, "connect", parameters, &suffix);
                operations.push((method, Operation { gvk, ..operation }));
            }
        } else if subresource.name == "log" {
            operations.push(("get", self.operation("read", "get", parameter::LOG, &suffix)));
        } else {
            operations = self.reads_and_writes(subresource.verbs, &suffix, subresource.gvk);
            if let (true, Some(gvk)) = (subresource.verbs.contains(&"create"), subresource.gvk) {
                let body = self.other(gvk.0, gvk.1, gvk.2);
                let create = self.operation("create", "post", parameter::WRITE, &suffix);
                operations.push(("post", Operation { gvk, response: body.clone(), body, ..create }));
            }
        }
        self.insert(path, operations);
    }
}
