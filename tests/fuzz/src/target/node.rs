//! What a node reads: the runtime's word, logs, image archives, pull secrets, fields of pods.

use std::io::Write;
use std::sync::LazyLock;

use serde_json::json;
use xebec_kubelet::decoders;

use super::document::objects;
use super::{bytes, halves, joined};

pub fn cni_seeds() -> Vec<Vec<u8>> {
    let attachments = json!([{"containerID": "c", "ifname": "eth0"}]);
    let configs = [
        json!({"cniVersion": "1.0.0", "name": "xebec", "type": "xebec", "socket": "/run/s"}),
        json!({"cniVersion": "1.1.0", "socket": "", "cni.dev/valid-attachments": attachments}),
        json!({"command": "ADD", "container": "c", "ifname": "eth0", "netns": "/n", "config": {}}),
        json!({"error": {"code": 7, "msg": "m"}}),
    ];
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_UID=u";
    configs.iter().map(|config| joined(args, &config.to_string())).collect()
}

pub fn cni(bytes: &[u8]) {
    let (args, input) = halves(bytes);
    xebec_podnet::cni::decoders::plugin(&String::from_utf8_lossy(args), input);
}

pub fn log_seeds() -> Vec<Vec<u8>> {
    let line = "2026-01-01T00:00:00.000000001Z stdout F text\n";
    let parts = "2026-01-01T00:00:00.000000001Z stderr P te\n2026-01-01T00:00:01.5Z stderr F xt\n";
    vec![
        joined("tailLines=2&timestamps=true&limitBytes=60", &[line, parts, line].concat()),
        joined("sinceTime=2026-01-01T00:00:01Z&stdout=1", &[parts, line].concat()),
        joined("sinceSeconds=5&previous=1", line),
    ]
}

/// The file, made anew for each input.
pub fn log(bytes: &[u8]) {
    static DIR: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| tempfile::tempdir().ok());
    let (query, lines) = halves(bytes);
    let Some(mut file) = DIR.as_ref().and_then(|dir| tempfile::NamedTempFile::new_in(dir).ok()) else { return };
    if file.write_all(lines).is_ok() {
        decoders::logs(&String::from_utf8_lossy(query), file.path());
    }
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, text) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        archive.extend(header);
        archive.extend(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

pub fn archive_seeds() -> Vec<Vec<u8>> {
    let docker = r#"[{"Config":"c.json","RepoTags":["busybox:1"],"Layers":["l/layer.tar"]}]"#;
    let index =
        r#"{"manifests":[{"digest":"sha256:a","size":2,"annotations":{"org.opencontainers.image.ref.name":"a/b:c"}}]}"#;
    let manifest = r#"{"layers":[{"mediaType":"m","digest":"sha256:b","size":1}]}"#;
    vec![
        tar(&[("c.json", "{}"), ("l/layer.tar", "x"), ("manifest.json", docker)]),
        tar(&[("index.json", index), ("blobs/sha256/a", manifest), ("./blobs/sha256/b", "x")]),
    ]
}

pub fn archive(bytes: &[u8]) {
    xebec_cri::import::decoders::archive(bytes);
}

pub fn secret_seeds() -> Vec<Vec<u8>> {
    let auth = json!({"auth": "dXNlcjpwYXNz"});
    let new = json!({"auths": {"https://index.docker.io/v1/": auth, "*.example.com:5000/team": {"username": "u", "password": "p"}}});
    let old = json!({"registry.example.com": auth});
    vec![joined("r.example.com:5000/team/image:tag", &new.to_string()), joined("busybox@sha256:0", &old.to_string())]
}

pub fn secret(bytes: &[u8]) {
    let (image, secret) = halves(bytes);
    decoders::pull_secret(secret, &String::from_utf8_lossy(image));
}

pub fn variable_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "a$(metadata.name)$$(b)$(metadata.labels['x'])$(",
        "limits.memory",
        "requests.cpu",
        "metadata.annotations['a/b']",
    ])
}

pub fn variable(bytes: &[u8]) {
    let pod = objects().swap_remove(0);
    if let Ok(pod) = serde_json::from_value(pod) {
        decoders::variable(&String::from_utf8_lossy(bytes), &pod);
    }
}
