//! The image of every sandbox, built here and imported before the first pod: no registry is needed.

use serde_json::json;
use sha2::{Digest, Sha256};
use xebec_cri::import::{Source, import};

/// What containerd's `sandbox_image` must say.
pub const IMAGE: &str = "docker.io/xebec/pause:1";

/// `pause/pause.rs`, compiled by the build script.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Puts the image into containerd; does nothing new when it is there already.
///
/// # Errors
/// As [`import`].
pub async fn ensure(channel: xebec_cri::Channel) -> xebec_cri::Result<()> {
    let archive = archive(PROGRAM).map_err(|error| xebec_cri::Error::Archive(error.to_string()))?;
    import(channel, Source::Stream(Box::new(std::io::Cursor::new(archive))), None).await.map(drop)
}

/// A docker-archive (Docker Image Specification 1.2) with one layer that holds `/pause`.
fn archive(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let layer = tar(&[("pause", program, 0o755)])?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest = json!([{"Config": config_name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).to_string();
    tar(&[
        ("layer.tar", &layer, 0o644),
        (&config_name, config.as_bytes(), 0o644),
        ("manifest.json", manifest.as_bytes(), 0o644),
    ])
}

fn tar(files: &[(&str, &[u8], u32)]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, *bytes)?;
    }
    tar.into_inner()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn program_is_a_static_executable_of_a_few_kilobytes() {
        assert!(super::PROGRAM.starts_with(b"\x7fELF"));
        assert!(super::PROGRAM.len() < 16 << 10, "{} bytes", super::PROGRAM.len());
    }
}
