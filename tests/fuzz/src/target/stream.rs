//! The streams of `kubectl exec`, `attach` and `port-forward`, after the upgrade.

use xebec_kubelet::decoders;

pub fn spdy_seeds() -> Vec<Vec<u8>> {
    // Ping, RST_STREAM of 5, GOAWAY: control frames of version 3 (SPDY/3.1, sections 2.6.3 to 2.6.6).
    let ping = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01";
    let reset = b"\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x05\x00\x00\x00\x05";
    let goaway = b"\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x07\x00\x00\x00\x00";
    let session = decoders::spdy_session();
    vec![session.clone(), [&session[..], ping, reset, goaway].concat(), [&ping[..], &session].concat()]
}

pub fn spdy(bytes: &[u8]) {
    decoders::spdy(bytes);
}

/// Counted names and values (section 2.6.10).
pub fn header_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&u32::try_from(text.len()).unwrap_or(0).to_be_bytes()[..], text.as_bytes()].concat();
    let block = |pairs: &[(&str, &str)]| {
        let count = u32::try_from(pairs.len()).unwrap_or(0).to_be_bytes().to_vec();
        let texts = pairs.iter().flat_map(|(name, value)| [text(name), text(value)].concat());
        count.into_iter().chain(texts).collect::<Vec<u8>>()
    };
    vec![block(&[]), block(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")])]
}

pub fn headers(bytes: &[u8]) {
    decoders::spdy_headers(bytes);
}

/// Masked frames of a client (RFC 6455, section 5.2) whose mask is zero, so that a change of a byte is one of its text.
pub fn websocket_seeds() -> Vec<Vec<u8>> {
    let frame = |first: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap_or(0) | 0x80;
        [&[first, length, 0, 0, 0, 0][..], payload].concat()
    };
    let size = frame(0x82, b"\x04{\"Width\":80,\"Height\":24}");
    let (input, end) = (frame(0x82, b"\x00ls\n"), frame(0x82, b"\xff\x00"));
    // In parts, with a ping between them; text; a close with its code.
    let parts = [frame(0x02, b"\x00l"), frame(0x89, b"ping"), frame(0x80, b"s\n")].concat();
    let close = frame(0x88, b"\x03\xe8bye");
    vec![[&size[..], &input, &end, &close].concat(), [&parts[..], &close].concat(), frame(0x81, b"0text")]
}

pub fn websocket(bytes: &[u8]) {
    decoders::websocket(bytes);
}
