//! The targets.

mod cel;
mod certificate;
mod credential;
mod document;
mod generate;
mod node;
mod object;
mod packet;
mod patch;
mod store;
mod stream;
mod text;

/// One decoder.
pub struct Target {
    pub name: &'static str,
    /// How much slower than most it is: the short run is shorter by so much.
    pub weight: usize,
    /// Inputs that are good, or nearly.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if the decoder is at fault.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, weight: usize, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8])) -> Target {
    Target { name, weight, seeds, run }
}

pub const TARGETS: &[Target] = &[
    target("json", 1, document::json_seeds, document::json),
    target("yaml", 1, document::yaml_seeds, document::yaml),
    target("protobuf", 1, document::protobuf_seeds, document::protobuf),
    target("json-patch", 1, patch::json_seeds, patch::json),
    target("merge-patch", 1, patch::pair_seeds, patch::merge),
    target("strategic-patch", 1, patch::pair_seeds, patch::strategic),
    target("apply", 2, patch::pair_seeds, patch::apply),
    target("fields", 1, patch::fields_seeds, patch::fields),
    target("object", 1, object::seeds, object::object),
    target("object-patch", 1, object::seeds, object::patch),
    target("selector", 1, text::selector_seeds, text::selector),
    target("quantity", 1, text::quantity_seeds, text::quantity),
    target("duration", 1, text::duration_seeds, text::duration),
    target("cel", 10, cel::rule_seeds, cel::rule),
    target("definition", 10, cel::definition_seeds, cel::definition),
    target("column", 10, cel::column_seeds, cel::column),
    target("device", 10, cel::device_seeds, cel::device),
    target("continue-token", 1, text::continue_seeds, text::continue_token),
    target("request", 1, text::request_seeds, text::request),
    target("setting", 1, text::setting_seeds, text::setting),
    target("resource-metrics", 1, text::metrics_seeds, text::metrics),
    target("store-log", 1, store::log_seeds, store::log),
    target("resource-version", 1, store::version_seeds, store::version),
    target("certificate", 2, certificate::seeds, certificate::certificate),
    target("client-certificate", 2, credential::certificate_seeds, credential::certificate),
    target("token", 10, credential::token_seeds, credential::token),
    target("claims", 10, credential::claims_seeds, credential::claims),
    target("join-token", 1, certificate::token_seeds, certificate::token),
    target("spdy", 2, stream::spdy_seeds, stream::spdy),
    target("spdy-headers", 1, stream::header_seeds, stream::headers),
    target("websocket", 2, stream::websocket_seeds, stream::websocket),
    target("cni", 1, node::cni_seeds, node::cni),
    target("container-log", 2, node::log_seeds, node::log),
    target("image-archive", 2, node::archive_seeds, node::archive),
    target("pull-secret", 1, node::secret_seeds, node::secret),
    target("variable", 1, node::variable_seeds, node::variable),
    target("packet", 1, packet::seeds, packet::packet),
    target("dns", 1, packet::dns_seeds, packet::dns),
    target("dns-answer", 1, packet::dns_answer_seeds, packet::dns_answer),
];

/// Two parts of an input.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0x1e).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// What [`halves`] takes apart (record separator, which no text has).
fn joined(first: &str, second: &str) -> Vec<u8> {
    [first.as_bytes(), b"\x1e", second.as_bytes()].concat()
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
