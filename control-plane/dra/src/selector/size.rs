//! How large the parts of a device can be (`sizeEstimator` of `k8s.io/dynamic-resource-allocation/cel`).

use xebec_apiextensions::cel::size::Sizes;

use crate::limits;

pub struct OfDevice;

impl Sizes for OfDevice {
    fn largest(&self, path: &[String]) -> Option<u64> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let largest = match path[..] {
            ["device", "driver"] => limits::DRIVER_BYTES_MAX,
            // All domains together have no more members than a device.
            ["device", "attributes" | "capacity"] | ["device", "attributes" | "capacity", "@values"] => {
                limits::ATTRIBUTES_AND_CAPACITIES_MAX
            }
            ["device", "attributes" | "capacity", "@keys"] => limits::DOMAIN_BYTES_MAX,
            ["device", "attributes" | "capacity", "@values", "@keys"] => limits::IDENTIFIER_BYTES_MAX,
            // Whatever its name.
            ["device", "attributes", "@values", _] => limits::ATTRIBUTE_BYTES_MAX,
            ["device"] | ["device", "capacity", "@values", "@values"] => 0,
            _ => return None,
        };
        Some(largest as u64)
    }
}
