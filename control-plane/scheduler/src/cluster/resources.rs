use std::collections::BTreeMap;
use std::sync::Arc;

use xebec_types::Quantity;
use xebec_types::resource;

/// Amounts of compute resources: CPU in thousandths, the rest in units.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, by name.
    pub scalars: Vec<(Arc<str>, i64)>,
}

impl Resources {
    /// `pods` is no amount of anything that a pod requests.
    pub fn new(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let value = || resource::value(quantity).unwrap_or(0);
            match name.as_str() {
                "cpu" => resources.milli_cpu = resource::milli(quantity).unwrap_or(0),
                "memory" => resources.memory = value(),
                "ephemeral-storage" => resources.ephemeral_storage = value(),
                "pods" => {}
                _ => resources.scalars.push((name.as_str().into(), value())),
            }
        }
        resources
    }

    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.iter().find(|(known, _)| **known == *name).map_or(0, |(_, value)| *value)
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    pub fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, value) in &other.scalars {
            match self.scalars.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = with(*known, *value),
                None => self.scalars.push((name.clone(), with(0, *value))),
            }
        }
    }
}
