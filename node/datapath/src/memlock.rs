//! The memory of maps and programs counts against RLIMIT_MEMLOCK of who makes them before Linux 5.11, which charges it to
//! the memory cgroup instead (97306be45fbe). aya raises the limit for what it makes itself, and not for what we do.

use std::io;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::{
    error::{Error, Result},
    sys,
};

/// `BPF_PROG_TYPE_SOCKET_FILTER` of include/uapi/linux/bpf.h, and `call bpf_ktime_get_coarse_ns; exit`: a helper that came
/// with 5.11 too (d05512618056).
const SOCKET_FILTER: u32 = 1;
const PROBE: [u64; 2] = [0x0000_00a0_0000_0085, 0x0000_0000_0000_0095];

/// Lifts the limit where the kernel has one for maps.
pub fn raise() -> Result<()> {
    raise_after(sys::prog_load(SOCKET_FILTER, &PROBE, 0).map(drop), || set(RLIM_INFINITY))
}

/// `probed` is what the probe said.
fn raise_after(probed: io::Result<()>, set: impl FnOnce() -> Result<()>) -> Result<()> {
    match probed.map_err(|error| error.raw_os_error()) {
        Err(Some(libc::EINVAL)) => set(),
        // The user's maps, pinned ones too, are beyond the limit already; or the user may not load programs at all, and
        // learns that from the program that they load.
        Err(Some(libc::EPERM)) => set().or(Ok(())),
        _ => Ok(()),
    }
}

fn set(limit: u64) -> Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit).map_err(|errno| Error::Memlock(errno.into()))
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::getrlimit;
    use nix::unistd::{Uid, seteuid};

    use super::*;

    /// Limits are the process's, and so is the test.
    #[test]
    fn the_limit_is_lifted_or_named() {
        let limit = || getrlimit(Resource::RLIMIT_MEMLOCK).expect("the limit");
        // Beyond the hard limit a container's root may not go either.
        let (_, hard) = limit();
        setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, hard).expect("a limit");
        set(hard).expect("anybody may go up to the hard limit");
        assert_eq!(limit(), (hard, hard));
        set(64 << 10).expect("a limit");
        seteuid(Uid::from_raw(65_534)).expect("another user");
        let error = set(RLIM_INFINITY).expect_err("only root may");
        assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    }

    #[test]
    fn the_limit_is_lifted_where_maps_count_or_may() {
        let refused = || Err(Error::Memlock(io::Error::from_raw_os_error(libc::EPERM)));
        for (probed, lifts, fails) in
            [(None, false, false), (Some(libc::EINVAL), true, true), (Some(libc::EPERM), true, false)]
        {
            let probed = || probed.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
            let mut lifted = false;
            let set = || {
                lifted = true;
                Ok(())
            };
            assert!(raise_after(probed(), set).is_ok());
            assert_eq!(lifted, lifts, "{:?}", probed());
            assert_eq!(raise_after(probed(), refused).is_err(), fails, "{:?}", probed());
        }
    }

    /// The kernels that have the helper have no limit either: a probe that is no valid program would say so of all.
    #[test]
    fn the_probe_is_a_program() {
        let probed = sys::prog_load(SOCKET_FILTER, &PROBE, 0);
        let release = nix::sys::utsname::uname().expect("uname");
        let release = release.release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        assert_eq!(probed.is_ok(), version >= (5, 11), "{release}: {probed:?}");
    }
}
