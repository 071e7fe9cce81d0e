//! The served resources, each with what the pipeline needs of it at every request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::RwLock;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use xebec_apiextensions::CustomResource;
use xebec_machinery::{GroupKind, GroupResource, GroupVersionKind, GroupVersionResource, Status};
use xebec_registry::Strategy;
use xebec_registry::strategy::Scope;
use xebec_store::cache::{Index, Indexer, Object, Pairs};

/// What a resource does: built in, or defined at run time.
#[derive(Clone)]
pub enum Behaviour {
    BuiltIn(&'static dyn Strategy),
    Custom(Arc<CustomResource>),
}

impl Deref for Behaviour {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(strategy) => *strategy,
            Self::Custom(custom) => &**custom,
        }
    }
}

/// One row of the registry.
pub struct Resource {
    pub row: xebec_schema::Resource,
    /// The row of the form that objects are stored in: that of another version or group, or this one.
    pub stored: xebec_schema::Resource,
    /// `apiVersion` in that form.
    pub stored_version: String,
    pub gvr: GroupVersionResource,
    pub gvk: GroupVersionKind,
    pub gr: GroupResource,
    pub gk: GroupKind,
    /// `apps/v1`
    pub api_version: String,
    /// `<group>/<resource>` of the keys that its objects have in the store.
    pub storage: String,
    pub strategy: Behaviour,
    /// Cancelled when the resource is not served any more, or not like this: its watches end. Only for custom resources.
    pub gone: CancellationToken,
}

impl Resource {
    fn new(row: &xebec_schema::Resource) -> Self {
        // `events.k8s.io` is another view of the core group's events.
        let group = match row.group {
            "" | "events.k8s.io" => "core",
            group => group,
        };
        let strategy = match row.group_resource() {
            gr if crate::crd::is_definition(&gr) => &xebec_apiextensions::Definition,
            gr => xebec_dra::strategy(&gr).unwrap_or_else(|| xebec_registry::strategy(&gr)),
        };
        let storage = format!("{group}/{}", row.plural);
        Self::of(*row, stored_row(row), storage, Behaviour::BuiltIn(strategy), CancellationToken::new())
    }

    /// A resource that came at run time; `gone` ends its watches.
    pub fn custom(custom: CustomResource, gone: CancellationToken) -> Self {
        let row = custom.row;
        Self::of(row, row, format!("{}/{}", row.group, row.plural), Behaviour::Custom(Arc::new(custom)), gone)
    }

    fn of(
        row: xebec_schema::Resource,
        stored: xebec_schema::Resource,
        storage: String,
        strategy: Behaviour,
        gone: CancellationToken,
    ) -> Self {
        Self {
            gvr: row.gvr(),
            gvk: row.gvk(),
            gr: row.group_resource(),
            gk: row.group_kind(),
            api_version: row.api_version(),
            storage,
            strategy,
            gone,
            stored_version: stored.api_version(),
            stored,
            row,
        }
    }

    /// The definition of a custom resource.
    pub fn as_custom(&self) -> Option<&CustomResource> {
        match &self.strategy {
            Behaviour::Custom(custom) => Some(custom),
            Behaviour::BuiltIn(_) => None,
        }
    }

    /// What ends watches of the resource.
    pub fn stop<'a>(&'a self, server: &'a CancellationToken) -> &'a CancellationToken {
        if self.as_custom().is_some() { &self.gone } else { server }
    }

    pub fn list_kind(&self) -> Cow<'_, str> {
        match self.as_custom() {
            Some(custom) => Cow::Borrowed(&custom.list_kind),
            None => Cow::Owned(format!("{}List", self.row.kind)),
        }
    }

    /// The built-in type of its objects; custom resources have a schema instead.
    pub fn definition(&self) -> Option<xebec_schema::DefId> {
        self.as_custom().is_none().then_some(self.row.def)
    }

    /// A stored object in the version of this resource.
    pub fn in_this_version(&self, value: Value) -> Value {
        match self.as_custom() {
            Some(custom) => custom.shown(value),
            None => value,
        }
    }

    /// Whether the stored bytes of an object are what this resource shows.
    pub fn shows_bytes_of(&self, object: &Object) -> bool {
        match &self.strategy {
            Behaviour::Custom(custom) => custom.shows_as_stored(object.revision().0),
            Behaviour::BuiltIn(_) => !self.converted(),
        }
    }

    pub fn namespaced(&self) -> bool {
        self.row.namespaced
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.row.group == group && self.row.plural == plural
    }

    /// Whether objects are stored in another form.
    pub fn converted(&self) -> bool {
        self.stored.def != self.row.def
    }

    /// `Some` for namespaced resources.
    pub fn scope<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        self.row.namespaced.then_some(namespace)
    }

    pub fn key(&self, namespace: &str, name: &str) -> String {
        xebec_store::cache::key(&self.storage, self.scope(namespace), name)
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.gr, name)
    }
}

/// The first row of a group's resource is the one that is stored; events are stored in the core group.
fn stored_row(row: &xebec_schema::Resource) -> xebec_schema::Resource {
    let group = if row.group == "events.k8s.io" { "" } else { row.group };
    let mut rows = xebec_schema::schema().resources().iter();
    rows.find(|other| other.group == group && other.plural == row.plural).copied().unwrap_or(*row)
}

/// Every served resource by its path.
pub struct Kinds {
    built_in: Table,
    /// Replaced as a whole when definitions change.
    custom: RwLock<Arc<Table>>,
}

/// Resources, findable by their path.
#[derive(Default)]
pub struct Table {
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), Arc<Resource>>,
    /// Differs between tables of different custom resources; zero without any.
    pub fingerprint: u64,
}

impl Table {
    pub fn new(resources: Vec<Arc<Resource>>) -> Self {
        let path = |r: &Arc<Resource>| (r.row.group.to_owned(), r.row.version.to_owned(), r.row.plural.to_owned());
        let by_path = resources.iter().map(|r| (path(r), r.clone())).collect();
        let marks = resources.iter().filter_map(|r| r.as_custom()).map(|custom| custom.fingerprint);
        let fingerprint = marks.fold(0, |all: u64, one| all.rotate_left(7) ^ one);
        Self { resources, by_path, fingerprint }
    }

    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }
}

impl Kinds {
    pub fn new() -> Self {
        let rows = xebec_schema::schema().resources();
        let built_in = Table::new(rows.iter().map(|row| Arc::new(Resource::new(row))).collect());
        Self { built_in, custom: RwLock::default() }
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.built_in.by_path.get(&path).cloned().or_else(|| self.custom.read().by_path.get(&path).cloned())
    }

    /// The built-in resource of a group, in whichever version is served.
    pub fn find(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.built_in.resources.iter().find(|r| r.is(group, plural))
    }

    /// The resources that are always served.
    pub fn built_in(&self) -> &[Arc<Resource>] {
        &self.built_in.resources
    }

    /// Whether the server knows the group without being told by a definition.
    pub fn is_built_in(&self, group: &str) -> bool {
        self.built_in().iter().any(|resource| resource.row.group == group)
    }

    /// The resources that definitions make.
    pub fn custom(&self) -> Arc<Table> {
        self.custom.read().clone()
    }

    pub fn set_custom(&self, table: Table) {
        *self.custom.write() = Arc::new(table);
    }

    /// The rows of everything that is served.
    pub fn rows(&self) -> Cow<'static, [xebec_schema::Resource]> {
        let built_in = xebec_schema::schema().resources();
        let custom = self.custom();
        if custom.resources.is_empty() {
            return Cow::Borrowed(built_in);
        }
        Cow::Owned(built_in.iter().copied().chain(custom.resources.iter().map(|r| r.row)).collect())
    }
}

/// Extracts labels and selectable fields by the strategy of each resource.
///
/// Selectable fields of custom resources change with their definitions: they are read when they are asked for.
///
/// Holds the strategies that have fields.
pub struct StrategyIndexer(HashMap<String, Behaviour>);

impl StrategyIndexer {
    pub fn new(kinds: &Kinds) -> Self {
        let own = kinds.built_in().iter().filter(|r| !r.converted() && !r.strategy.fields(&Value::Null).is_empty());
        Self(own.map(|r| (r.storage.clone(), r.strategy.clone())).collect())
    }
}

impl Indexer for StrategyIndexer {
    fn index(&self, resource: &str, json: &[u8]) -> Index {
        let strategy = self.0.get(resource).map(|behaviour| &**behaviour);
        // Most kinds have no fields of their own: their labels are read without making anything of the rest.
        let (None, Ok(labels)) = (strategy, labels(json)) else { return Self::parsed(strategy, json) };
        Index { labels, fields: Pairs::default() }
    }
}

impl StrategyIndexer {
    fn parsed(strategy: Option<&dyn Strategy>, json: &[u8]) -> Index {
        let Ok(object) = serde_json::from_slice::<Value>(json) else { return Index::default() };
        let labels = Pairs::new(xebec_machinery::object::labels(&object));
        let fields = strategy.map(|strategy| strategy.fields(&object)).unwrap_or_default();
        Index { labels, fields: Pairs::new(fields) }
    }
}

fn labels(json: &[u8]) -> serde_json::Result<Pairs> {
    #[derive(serde::Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        metadata: Metadata<'a>,
    }
    #[derive(serde::Deserialize, Default)]
    struct Metadata<'a> {
        #[serde(borrow, default)]
        labels: HashMap<Cow<'a, str>, Cow<'a, str>>,
    }
    serde_json::from_slice::<Object<'_>>(json).map(|object| Pairs::new(object.metadata.labels))
}

/// The selectable fields of a resource.
pub fn field_names(strategy: &dyn Strategy) -> Vec<String> {
    let mut names: Vec<_> = strategy.selectable_fields(&Value::Null).into_iter().map(|(name, _)| name).collect();
    if strategy.scope() == Scope::Namespaced && !names.iter().any(|n| n == "metadata.namespace") {
        names.push("metadata.namespace".into());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resource: &str, json: &str, labels: &[(&str, &str)], fields: &[(&str, &str)]) {
        let index = StrategyIndexer::new(&Kinds::new()).index(resource, json.as_bytes());
        assert_eq!(index.labels.iter().collect::<Vec<_>>(), labels, "{json}");
        assert_eq!(index.fields.iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>(), fields, "{json}");
    }

    #[test]
    fn labels_and_fields_are_found_in_objects_of_any_kind() {
        let labelled = r#"{"metadata":{"name":"a","labels":{"b":"2","a":"quote \"","c":""}},"data":{"x":"y"}}"#;
        check("core/configmaps", labelled, &[("a", "quote \""), ("b", "2"), ("c", "")], &[]);
        check("unknown/things", labelled, &[("a", "quote \""), ("b", "2"), ("c", "")], &[]);
        check("core/configmaps", r#"{"metadata":{"labels":null}}"#, &[], &[]);
        check("core/configmaps", r#"{"data":{}}"#, &[], &[]);
        check("core/configmaps", "no JSON", &[], &[]);
        let secret = r#"{"metadata":{"labels":{"a":"1"}},"type":"Opaque"}"#;
        check("core/secrets", secret, &[("a", "1")], &[("type", "Opaque")]);
    }
}
