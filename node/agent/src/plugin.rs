//! How containerd gets to the CNI plugin: this binary under the plugins' names, and the configuration that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xebec_podnet::cni;

/// containerd runs `loopback` before any other.
const NAMES: [&str; 2] = ["loopback", "xebec"];
const CONF: &str = "10-xebec.conflist";

/// Makes the links first, then the configuration, which asks the agent at `socket`.
pub fn install(bin_dir: &Path, conf_dir: &Path, socket: &Path) -> io::Result<()> {
    let program = std::env::current_exe()?;
    fs::create_dir_all(bin_dir)?;
    for name in NAMES {
        replace_link(&program, &bin_dir.join(name))?;
    }
    fs::create_dir_all(conf_dir)?;
    let path = conf_dir.join(CONF);
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, cni::conflist(socket))?;
    fs::rename(&temporary, &path)
}

/// Removes what [`install`] made, and returns its paths. The directories stay, and so does a `loopback` of others.
pub fn uninstall(bin_dir: &Path, conf_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let own = fs::read_link(bin_dir.join("xebec")).ok();
    let links = NAMES.iter().map(|name| bin_dir.join(name));
    let links = links.filter(|link| own.is_some() && fs::read_link(link).ok() == own);
    let mut removed = Vec::new();
    for path in std::iter::once(conf_dir.join(CONF)).chain(links) {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Points `link` at `target`, unless another CNI plugin of that name is there.
fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    match fs::symlink_metadata(link) {
        Ok(metadata) if !metadata.is_symlink() => return Ok(()),
        Ok(_) => fs::remove_file(link)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    std::os::unix::fs::symlink(target, link)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_others_put_there_stays() {
        let dir = std::env::temp_dir().join(format!("xebec-plugin-{}", std::process::id()));
        let (bin, conf) = (dir.join("bin"), dir.join("conf"));
        let left = || {
            let names =
                |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
            [names(&bin), names(&conf)].concat()
        };
        install(&bin, &conf, Path::new("/run/cni.sock")).unwrap();
        let expected = [conf.join(CONF), bin.join("loopback"), bin.join("xebec")];
        assert_eq!(uninstall(&bin, &conf).unwrap(), expected);
        assert_eq!(left(), [""; 0]);
        assert_eq!(uninstall(&bin, &conf).unwrap(), [""; 0].map(PathBuf::from));

        for others in [true, false] {
            install(&bin, &conf, Path::new("/run/cni.sock")).unwrap();
            fs::write(conf.join("20-theirs.conflist"), "{}").unwrap();
            fs::remove_file(bin.join("loopback")).unwrap();
            match others {
                true => fs::write(bin.join("loopback"), "theirs").unwrap(),
                false => std::os::unix::fs::symlink("/theirs", bin.join("loopback")).unwrap(),
            }
            assert_eq!(uninstall(&bin, &conf).unwrap(), [conf.join(CONF), bin.join("xebec")]);
            assert_eq!(left(), ["loopback", "20-theirs.conflist"]);
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
