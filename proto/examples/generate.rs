//! Writes `src/generated/` from the `.proto` files: `cargo run -p xebec-proto --example generate` (needs `protoc`).
//! With `--check`, writes nothing and fails when a committed file is stale.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("src/generated");
    let check = std::env::args().any(|arg| arg == "--check");
    let fresh =
        if check { std::env::temp_dir().join(format!("xebec-proto-{}", std::process::id())) } else { out.clone() };
    std::fs::create_dir_all(&fresh)?;
    tonic_prost_build::configure()
        .build_server(false)
        .disable_comments(["."])
        .out_dir(&fresh)
        .compile_protos(&[root.join("cri/v1.proto")], &[root.join("cri")])?;
    if check {
        let name = "runtime.v1.rs";
        let same = std::fs::read(fresh.join(name))? == std::fs::read(out.join(name))?;
        std::fs::remove_dir_all(&fresh)?;
        if !same {
            return Err(format!("{name} is stale: run `cargo run -p xebec-proto --example generate`").into());
        }
    }
    Ok(())
}
