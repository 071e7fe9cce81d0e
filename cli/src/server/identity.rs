//! Who a server is in elections: the same after a restart, so that it need not wait for its own Lease to expire.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// `<host name>_<random>`, as upstream's, kept in the data directory and locked while this process lives.
///
/// A copy of the directory, on another host or under another path, is another server and gets another identity.
///
/// # Errors
/// When another process holds the identity, or the file cannot be written.
pub fn claim(data_dir: &Path) -> Result<(String, File)> {
    let path = data_dir.join("identity");
    let place = format!("{} {}", host_name(), data_dir.canonicalize().unwrap_or_else(|_| data_dir.into()).display());
    let attempt = || -> Result<(String, File)> {
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another server runs with this data directory"),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut stored = String::new();
        file.read_to_string(&mut stored)?;
        if let Some((identity, of)) = stored.trim_end().split_once(' ')
            && of == place
        {
            return Ok((identity.to_owned(), file));
        }
        let identity = format!("{}_{}", host_name(), random()?);
        file.rewind()?;
        file.set_len(0)?;
        writeln!(file, "{identity} {place}")?;
        file.sync_all()?;
        Ok((identity, file))
    };
    attempt().with_context(|| format!("use {}", path.display()))
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty() && !name.contains(' ')).unwrap_or_else(|| "localhost".to_owned())
}

/// A random UUID.
fn random() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("read a random UUID")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_outlives_its_process_but_not_its_place() {
        let here = tempfile::tempdir().expect("a directory");
        let (first, lock) = claim(here.path()).expect("a new identity");
        assert!(claim(here.path()).is_err(), "two processes have one identity");
        drop(lock);
        let (second, _lock) = claim(here.path()).expect("the identity of before");
        assert_eq!(first, second);
        let there = tempfile::tempdir().expect("a directory");
        std::fs::copy(here.path().join("identity"), there.path().join("identity")).expect("a copy");
        let (copied, _lock) = claim(there.path()).expect("an identity");
        assert_ne!(first, copied);
    }
}
