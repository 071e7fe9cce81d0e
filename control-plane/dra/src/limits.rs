//! The limits of `k8s.io/api/resource/v1/types.go`: counts of items, bytes of texts.

pub const REQUESTS_MAX: usize = 32;
pub const FIRST_AVAILABLE_MAX: usize = 8;
pub const CONSTRAINTS_MAX: usize = 32;
pub const CONFIG_MAX: usize = 32;
pub const SELECTORS_MAX: usize = 32;
pub const EXPRESSION_BYTES_MAX: usize = 10 << 10;
/// `CELSelectorExpressionMaxCost`: of one selector, asked of one device.
pub const EXPRESSION_COST_MAX: u64 = 1_000_000;
pub const PARAMETERS_BYTES_MAX: usize = 10 << 10;
pub const TOLERATIONS_MAX: usize = 16;

/// Devices that all requests of a claim get together.
pub const RESULTS_MAX: usize = 32;
/// Consumers of one claim.
pub const RESERVED_FOR_MAX: usize = 256;
pub const STATUS_CONDITIONS_MAX: usize = 8;
pub const STATUS_DATA_BYTES_MAX: usize = 10 << 10;
pub const INTERFACE_NAME_BYTES_MAX: usize = 256;
pub const HARDWARE_ADDRESS_BYTES_MAX: usize = 128;
pub const IPS_MAX: usize = 16;

pub const POOL_NAME_BYTES_MAX: usize = 253;
pub const DEVICES_MAX: usize = 128;
/// Of devices in a slice where one has taints or consumes counters.
pub const ADVANCED_DEVICES_MAX: usize = 64;
pub const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
pub const ATTRIBUTE_BYTES_MAX: usize = 64;
pub const IDENTIFIER_BYTES_MAX: usize = 32;
pub const DOMAIN_BYTES_MAX: usize = 63;
pub const DRIVER_BYTES_MAX: usize = 63;
pub const TAINTS_MAX: usize = 16;
pub const COUNTER_SETS_MAX: usize = 8;
pub const COUNTERS_MAX: usize = 32;
pub const CONSUMED_SETS_MAX: usize = 2;
