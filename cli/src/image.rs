//! `xebec image`: images reach nodes without a registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::DEFAULT_DIR;
use crate::cluster::layout::Layout;
use crate::cluster::spec::Spec;
use crate::output::say;

#[derive(Args)]
pub struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put the images of an archive (docker-archive or OCI tar) on every node of a cluster
    Import {
        /// The archive; `-` reads standard input
        file: PathBuf,
        /// The cluster's directory
        #[arg(long, default_value = DEFAULT_DIR)]
        dir: PathBuf,
        /// Import into the containerd with this socket instead, on a host that runs one agent
        #[arg(long, value_name = "SOCKET")]
        container_runtime_endpoint: Option<PathBuf>,
    },
}

impl Image {
    /// # Errors
    /// No cluster in the directory, an unreadable archive, or a containerd that refuses it.
    pub async fn run(self) -> Result<()> {
        let Command::Import { file, dir, container_runtime_endpoint } = self.command;
        if let Some(socket) = container_runtime_endpoint {
            return import(&socket, &file).await;
        }
        let layout = Layout::new(&dir)?;
        let Some(spec) = Spec::load(&layout)? else {
            bail!(
                "no cluster in {}: run `xebec up` first, or name a socket with --container-runtime-endpoint",
                dir.display()
            );
        };
        import_everywhere(&layout, &spec, &file).await
    }
}

/// Imports an archive on every node.
///
/// # Errors
/// Names the node.
pub async fn import_everywhere(layout: &Layout, spec: &Spec, file: &Path) -> Result<()> {
    let spooled = spool(file)?;
    for node in spec.nodes() {
        import(&layout.containerd_socket(node), spooled.as_ref())
            .await
            .with_context(|| format!("import {} on {}", file.display(), node.name()))?;
    }
    Ok(())
}

/// Standard input can be read once, but every node needs the archive.
fn spool(file: &Path) -> Result<Spooled> {
    if file != Path::new("-") {
        return Ok(Spooled::Given(file.to_path_buf()));
    }
    let mut temporary = tempfile::NamedTempFile::new().context("make a temporary file")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut temporary).context("read standard input")?;
    Ok(Spooled::Temporary(temporary))
}

enum Spooled {
    Given(PathBuf),
    Temporary(tempfile::NamedTempFile),
}

impl AsRef<Path> for Spooled {
    fn as_ref(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(file) => file.path(),
        }
    }
}

async fn import(socket: &Path, file: &Path) -> Result<()> {
    let channel = xebec_cri::connect(socket);
    for image in xebec_cri::import::import(channel, xebec_cri::import::source(file), None).await? {
        say!("imported {} on {}", image.name, socket.display())?;
    }
    Ok(())
}
