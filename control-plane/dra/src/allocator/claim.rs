//! A claim as exact types, with its classes and compiled selectors.

use std::sync::Arc;

use serde_json::Value;
use xebec_types::device::{self, DeviceClass, DeviceSelector, DeviceToleration, ResourceClaim};
use xebec_types::object;

use crate::selector::Selector;
use crate::taint;

pub struct Claim {
    pub claim: Arc<ResourceClaim>,
    pub requests: Vec<Request>,
    pub constraints: Vec<Constraint>,
}

pub struct Request {
    /// In the order in which they are preferred; one, unless the request is of alternatives.
    pub alternatives: Vec<Want>,
}

/// What one request, or one of its alternatives, asks for.
pub struct Want {
    /// Different for each want of an allocator.
    pub id: usize,
    /// `request` or `request/subrequest`.
    pub name: String,
    pub class: Arc<DeviceClass>,
    pub selectors: Vec<Named>,
    /// None for all that there are.
    pub count: Option<usize>,
    /// Beside those who use the devices.
    pub admin: bool,
    pub tolerations: Option<Vec<DeviceToleration>>,
}

/// A selector, and where it is from.
pub struct Named {
    pub of: String,
    pub compiled: Selector,
}

/// All devices of these requests have one value of the attribute.
pub struct Constraint {
    requests: Vec<String>,
    pub attribute: String,
}

impl Constraint {
    pub fn concerns(&self, want: &Want) -> bool {
        let request = want.name.split('/').next().unwrap_or_default();
        self.requests.is_empty() || self.requests.iter().any(|name| *name == want.name || name == request)
    }
}

impl Claim {
    pub fn compile(
        claim: &Arc<ResourceClaim>,
        class: &impl Fn(&str) -> Option<Arc<DeviceClass>>,
        wants: &mut usize,
    ) -> Result<Self, String> {
        let name = format!("{}/{}", object::namespace(&claim.metadata), object::name(&claim.metadata));
        let devices = claim.spec.devices.clone().unwrap_or_default();
        let mut requests = Vec::new();
        for request in devices.requests.iter().flatten() {
            let mut alternatives = Vec::new();
            if let Some(exactly) = &request.exactly {
                let asked = Asked {
                    class: &exactly.device_class_name,
                    selectors: exactly.selectors.as_deref().unwrap_or_default(),
                    mode: exactly.allocation_mode.as_deref(),
                    count: exactly.count,
                    admin: exactly.admin_access == Some(true),
                    tolerations: &exactly.tolerations,
                };
                alternatives.push(asked.compile(&name, request.name.clone(), class, wants)?);
            }
            for sub in request.first_available.iter().flatten() {
                let asked = Asked {
                    class: &sub.device_class_name,
                    selectors: sub.selectors.as_deref().unwrap_or_default(),
                    mode: sub.allocation_mode.as_deref(),
                    count: sub.count,
                    admin: false,
                    tolerations: &sub.tolerations,
                };
                alternatives.push(asked.compile(&name, format!("{}/{}", request.name, sub.name), class, wants)?);
            }
            requests.push(Request { alternatives });
        }
        let constraint = |constraint: &device::DeviceConstraint| {
            let attribute = constraint.match_attribute.clone()?;
            Some(Constraint { requests: constraint.requests.clone().unwrap_or_default(), attribute })
        };
        let constraints = devices.constraints.iter().flatten().map(constraint).collect::<Option<_>>();
        let constraints =
            constraints.ok_or_else(|| format!("claim {name}: empty constraint (unsupported constraint type?)"))?;
        Ok(Self { claim: Arc::clone(claim), requests, constraints })
    }
}

/// What both forms of a request say.
struct Asked<'a> {
    class: &'a str,
    selectors: &'a [DeviceSelector],
    mode: Option<&'a str>,
    count: Option<i64>,
    admin: bool,
    tolerations: &'a Option<Vec<DeviceToleration>>,
}

impl Asked<'_> {
    fn compile(
        &self,
        claim: &str,
        name: String,
        class: &impl Fn(&str) -> Option<Arc<DeviceClass>>,
        wants: &mut usize,
    ) -> Result<Want, String> {
        let missing = || format!("request {name}: device class {} does not exist", self.class);
        let class = class(self.class).ok_or_else(missing)?;
        let of_class = format!("class {}", self.class);
        let mut selectors = compile(class.spec.selectors.as_deref().unwrap_or_default(), &of_class)?;
        selectors.extend(compile(self.selectors, &format!("claim {claim}"))?);
        let count = match self.mode {
            Some("All") => None,
            None | Some("ExactCount") => Some(usize::try_from(self.count.unwrap_or(1)).unwrap_or(usize::MAX)),
            Some(mode) => return Err(format!("claim {claim}, request {name}: unsupported count mode {mode}")),
        };
        *wants += 1;
        let tolerations = self.tolerations.clone();
        Ok(Want { id: *wants, name, class, selectors, count, admin: self.admin, tolerations })
    }
}

fn compile(selectors: &[DeviceSelector], of: &str) -> Result<Vec<Named>, String> {
    let compile = |(index, selector): (usize, &DeviceSelector)| {
        let of = format!("{of}: selector #{index}");
        let text = selector.cel.as_ref().map(|cel| cel.expression.as_str());
        let text = text.ok_or_else(|| format!("{of}: CEL expression empty (unsupported selector type?)"))?;
        let compiled = Selector::compile(text).map_err(|why| format!("{of}: CEL compile error: {why}"))?;
        Ok(Named { of, compiled })
    };
    selectors.iter().enumerate().map(compile).collect()
}

impl Want {
    /// Whether the device's taints let the want have it.
    pub fn tolerates(&self, device: &device::Device) -> bool {
        let keeps_away = |taint: &&device::DeviceTaint| ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str());
        let taints: Vec<&device::DeviceTaint> = device.taints.iter().flatten().filter(keeps_away).collect();
        if taints.is_empty() {
            return true;
        }
        let json = |value: &DeviceToleration| serde_json::to_value(value).unwrap_or_default();
        let tolerations: Vec<Value> = self.tolerations.iter().flatten().map(json).collect();
        taints.iter().all(|taint| taint::tolerated(&serde_json::to_value(taint).unwrap_or_default(), &tolerations))
    }
}
