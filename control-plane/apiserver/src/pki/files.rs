//! Certificates on disk: written whole or not at all, private keys readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::PkiError;

pub fn create_dir(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))
}

pub fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// `name.crt` and `name.key`, if both exist.
pub fn read_pair(dir: &Path, name: &str) -> Result<Option<(String, String)>, PkiError> {
    let cert = read(&dir.join(format!("{name}.crt")))?;
    let key = read(&dir.join(format!("{name}.key")))?;
    Ok(cert.zip(key))
}

pub fn write_pair(dir: &Path, name: &str, cert: &str, key: &str) -> Result<(), PkiError> {
    write_secret(&dir.join(format!("{name}.key")), key)?;
    write_file(&dir.join(format!("{name}.crt")), cert.as_bytes(), 0o644)
}

/// Writes a file that only its owner can read, whole or not at all; when this returns, it stays written.
pub fn write_secret(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), PkiError> {
    write_file(path, contents.as_ref(), 0o600)
}

fn write_file(path: &Path, contents: &[u8], mode: u32) -> Result<(), PkiError> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(directory(path))?.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Of a name alone, too, whose parent is empty.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_name_alone_can_be_opened() {
        assert_eq!(directory(Path::new("kubeconfig")), Path::new("."));
        assert_eq!(directory(Path::new("pki/ca.crt")), Path::new("pki"));
    }
}
