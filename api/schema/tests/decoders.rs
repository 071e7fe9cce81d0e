//! Whatever bytes come, decoders answer with a value or an error, soon.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xebec_machinery::{json as strict_json, yaml};
use xebec_schema::protobuf;

/// Enough to meet every branch; `DECODER_ROUNDS` runs it for longer by hand.
fn rounds() -> usize {
    std::env::var("DECODER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3_000)
}

fn objects() -> Vec<Value> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b", "labels": {"x": "y"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "http", "path": "/"}}}],
            "tolerations": [{"operator": "Exists", "tolerationSeconds": 300}],
            "terminationGracePeriodSeconds": 30,
        },
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "aHVzaA=="}});
    let options =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5, "propagationPolicy": "Orphan"});
    vec![pod, secret, options]
}

/// `decode` survives the changed forms of every seed, each within a second.
#[track_caller]
fn check(name: &str, seeds: &[Vec<u8>], decode: impl Fn(&[u8])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds() {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(4) {
            random.change(&mut bytes, seeds);
        }
        let start = Instant::now();
        decode(&bytes);
        assert!(start.elapsed() < Duration::from_secs(1), "{name}: {:?} took {:?}", &bytes, start.elapsed());
    }
}

#[test]
fn json_is_read_or_refused() {
    let seeds: Vec<_> = objects().iter().map(|object| object.to_string().into_bytes()).collect();
    check("json", &seeds, |bytes| {
        if let Ok((value, _)) = strict_json::parse_strict(bytes) {
            assert!(strict_json::parse_strict(value.to_string().as_bytes()).is_ok(), "{value}");
        }
    });
}

#[test]
fn yaml_is_read_or_refused() {
    let text = "a: &x {b: [1, 'two', \"three\"]}\nc: *x\nd: |\n  text\n  more\ne: !!str 5\n? f\n: - g\n  - h: ~\n";
    let seeds = objects().into_iter().map(|object| object.to_string().into_bytes());
    let seeds: Vec<_> = seeds.chain([text.as_bytes().to_vec()]).collect();
    check("yaml", &seeds, |bytes| _ = yaml::parse(bytes).is_ok());
}

#[test]
fn protobuf_is_read_or_refused() {
    let seeds: Vec<_> = objects().iter().map(|object| protobuf::encode(object).unwrap().to_vec()).collect();
    check("protobuf", &seeds, |bytes| {
        if let Ok(value) = protobuf::decode(bytes) {
            _ = protobuf::encode(&value).is_ok();
        }
    });
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// What fuzzers do: flip, cut, repeat, and splice in parts of others and telling numbers.
    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        const TELLING: [&[u8]; 8] = [
            b"\xff\xff\xff\xff\x0f",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\0",
            b"[[[[",
            b"{{{{",
            b"\\u0000",
            b"-0",
            b"1e999",
        ];
        let at = self.below(bytes.len() + 1);
        let length = self.below(16).min(bytes.len() - at);
        match self.below(6) {
            0 if length > 0 => bytes[at] ^= 1 << self.below(8),
            1 if length > 0 => bytes[at] = self.below(256) as u8,
            2 => _ = bytes.drain(at..at + length),
            3 => {
                let part = bytes[at..at + length].repeat(1 + self.below(200));
                bytes.splice(at..at, part);
            }
            4 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let part = other[from..(from + self.below(64)).min(other.len())].to_vec();
                bytes.splice(at..at + length, part);
            }
            _ => {
                let part = TELLING[self.below(TELLING.len())].to_vec();
                bytes.splice(at..at + length, part);
            }
        }
    }
}
