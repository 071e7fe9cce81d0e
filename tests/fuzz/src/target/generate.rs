//! Objects made of bytes by the schema: most of what a fuzzer would change in JSON is refused by the decoder, and this is what comes after it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use xebec_schema::{Alternative, DefId, Type, schema};

/// Values that mean something somewhere, and some that nearly do.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", "a", "b", "a.b", "example.com/a", "-", "A_b", "a/../b", "/a", "*", "é", "$(A)", "{}", "None", "default",
    "cpu", "memory", "pods", "1Gi", "0", "1", "80", "65536", "100%", "-1%", "99999999999999999999%", "10.0.0.1",
    "::ffff:10.0.0.1", "fd00::1", "10.0.0.0/8", "10.0.0.1/33", "fd00::/108", "*/5 * * * *", "@daily",
    "TZ=UTC * * * * *", "UTC", "2026-01-01T00:00:00Z", "TCP", "UDP", "SCTP", "ClusterIP", "NodePort", "LoadBalancer",
    "ExternalName", "Cluster", "Local", "IPv4", "IPv6", "SingleStack", "PreferDualStack", "RequireDualStack",
    "ClientIP", "RollingUpdate", "Recreate", "OnDelete", "Always", "Never", "OnFailure", "IfNotPresent", "In",
    "NotIn", "Exists", "DoesNotExist", "Gt", "Equal", "NoSchedule", "NoExecute", "Prefix", "Exact", "ReadWriteOnce",
    "ReadWriteOncePod", "Filesystem", "Block", "Delete", "Retain", "Forbid", "Replace", "Indexed", "NonIndexed",
    "FailJob", "FailIndex", "Ignore", "Count", "Utilization", "AverageValue", "Resource", "Pods", "Object",
    "External", "Container", "Percent", "True", "False", "Unknown", "Running", "Succeeded", "Failed", "Pending",
    "Ready", "Allow", "AllowV6", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "kubernetes.io/hostname",
    "kubernetes.io/metadata.name", "v1", "apps/v1", "Pod", "Node", "User", "Group", "ServiceAccount", "ClusterRole",
    "get", "metadata.name", "metadata.labels['a']", "limits.cpu", "Localhost", "RuntimeDefault", "Unconfined",
    "runtime/default", "net.ipv4.tcp_syncookies", "HTTP", "device.driver == 'a'", "ExactCount", "All", "attr",
    "HugePages", "hugepages-2Mi", "requests.cpu", "example.com/", "-----BEGIN",
];
const NUMBERS: &[i64] = &[
    0,
    1,
    2,
    -1,
    3,
    5,
    10,
    30,
    80,
    100,
    1000,
    1001,
    30_000,
    32_767,
    65_535,
    65_536,
    2_147_483_647,
    -2_147_483_648,
    4_294_967_296,
    9_223_372_036_854_775_807,
    -9_223_372_036_854_775_808,
];
const QUANTITIES: &[&str] =
    &["0", "1", "100m", "1Gi", "-1", "1n", "9223372036854775807", "1e18", "0.5", "1Ei", "12345678901234567890123"];
const TIMES: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2026-01-01T00:00:00+23:59",
];
const MICRO_TIMES: &[&str] =
    &["2026-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"];

/// Bytes as decisions; there is always another, and in the end it is 0, which makes nothing more.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.byte() % choices.len()]
    }

    fn text(&mut self) -> String {
        match self.byte() {
            // A text of its own.
            raw @ 240.. => String::from_utf8_lossy(self.take(raw - 240)).into_owned(),
            230..240 => self.of(TEXTS).repeat(100),
            220..230 => format!("{}.{}", self.of(TEXTS), self.of(TEXTS)),
            other => TEXTS[other % TEXTS.len()].to_owned(),
        }
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A value of a definition with some of its fields, none of which has to be there.
    pub fn object(&mut self, definition: DefId) -> Value {
        let fields = &schema().definition(definition).fields;
        let mut object = Map::new();
        if fields.is_empty() {
            return Value::Object(object);
        }
        for _ in 0..self.byte() % 8 {
            let field = &fields[self.byte() % fields.len()];
            object.insert(field.name.to_owned(), self.value(&field.ty));
        }
        Value::Object(object)
    }

    fn value(&mut self, ty: &Type) -> Value {
        match ty {
            Type::String => json!(self.text()),
            Type::Bytes => json!(STANDARD.encode(self.text())),
            Type::Bool => json!(self.byte() % 2 == 1),
            Type::Int32 => json!(i32::try_from(self.of(NUMBERS)).unwrap_or(7)),
            Type::Int64 => json!(self.of(NUMBERS)),
            Type::Double => json!(self.of(&[0.0, 1.0, -0.5, 1e300])),
            Type::Time => json!(self.of(TIMES)),
            Type::MicroTime => json!(self.of(MICRO_TIMES)),
            Type::Quantity => json!(self.of(QUANTITIES)),
            Type::IntOrString if self.byte().is_multiple_of(2) => json!(i32::try_from(self.of(NUMBERS)).unwrap_or(7)),
            Type::IntOrString => json!(self.text()),
            Type::RawExtension | Type::FieldsV1 => json!({ self.text(): { "f:a": {} } }),
            Type::Json | Type::Any => {
                self.of(&[json!(null), json!(1), json!("a"), json!([]), json!({ "a": [1] })].each_ref()).clone()
            }
            Type::Or(definition, alternative) => match (self.byte() % 2, alternative) {
                (0, _) => self.object(*definition),
                (_, Alternative::Bool) => json!(self.byte() % 2 == 1),
                (_, Alternative::List) => json!([self.object(*definition)]),
                (_, Alternative::Strings) => json!([self.text()]),
            },
            Type::WrappedStrings => json!([self.text()]),
            Type::Object(definition) => self.object(*definition),
            Type::List(ty) => (0..self.byte() % 4).map(|_| self.value(ty)).collect(),
            Type::Map(ty) => (0..self.byte() % 4).map(|_| (self.text(), self.value(ty))).collect::<Map<_, _>>().into(),
        }
    }
}
