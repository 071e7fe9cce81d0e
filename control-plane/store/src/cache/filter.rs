use std::sync::Arc;

use super::Object;

type Predicate = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// Which objects of a resource a list or watch is about.
#[derive(Clone, Default)]
pub struct Filter {
    namespace: Option<Arc<str>>,
    name: Option<Arc<str>>,
    field: Option<(Arc<str>, Arc<str>)>,
    predicate: Option<Predicate>,
}

impl Filter {
    pub fn all() -> Self {
        Self::default()
    }

    /// Objects for which `predicate` (label and field selectors) holds. It must depend on the object only.
    pub fn new(predicate: impl Fn(&Object) -> bool + Send + Sync + 'static) -> Self {
        Self { predicate: Some(Arc::new(predicate)), ..Self::default() }
    }

    /// Only the object of this name: with a namespace (or a cluster-scoped resource) a look-up instead of a scan.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only objects whose selectable `field` is `value`. A watcher with such a filter costs nothing for other values.
    #[must_use]
    pub fn with_field(mut self, field: &str, value: &str) -> Self {
        self.field = Some((field.into(), value.into()));
        self
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self.name.as_deref().is_none_or(|name| object.name() == name)
            && self.field.as_ref().is_none_or(|(field, value)| object.field(field) == Some(value))
            && self.predicate.as_ref().is_none_or(|predicate| predicate(object))
    }

    pub fn is_all(&self) -> bool {
        self.namespace.is_none() && self.name.is_none() && self.field.is_none() && self.predicate.is_none()
    }

    pub(super) fn within(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(Into::into);
        self
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn field(&self) -> Option<&(Arc<str>, Arc<str>)> {
        self.field.as_ref()
    }
}
