//! Pinned links: they keep programs attached while no agent runs, and replace them atomically.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    config,
    error::{Error, Result},
    hook::Hook,
    sys,
};

/// Directory of link pins inside the node's pin directory.
pub const DIRECTORY: &str = "links";
/// The longest that a link without a pin stays attached: a kernel thread detaches it, which has to get a processor.
const DETACHES_WITHIN: Duration = Duration::from_secs(5);

pub enum Target<'a> {
    Device { ifindex: u32, name: &'a str },
    Cgroup { id: u64, fd: u32, path: &'a Path },
}

impl Target<'_> {
    fn matches(&self, info: &sys::LinkInfo) -> bool {
        match self {
            Self::Device { ifindex, .. } => info.ifindex() == *ifindex,
            Self::Cgroup { id, .. } => info.cgroup_id() == *id,
        }
    }

    fn raw(&self) -> u32 {
        match self {
            Self::Device { ifindex, .. } => *ifindex,
            Self::Cgroup { fd, .. } => *fd,
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Device { name, .. } => (*name).to_owned(),
            Self::Cgroup { path, .. } => path.display().to_string(),
        }
    }
}

/// The ids of the programs that a node's pinned links run, by the names of their pins; empty where there are none.
pub fn programs(bpffs: &Path, node: &str) -> Result<BTreeMap<String, u32>> {
    let links = config::version_directory(bpffs, node).join(DIRECTORY);
    let entries = match fs::read_dir(&links) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(Error::Pin { operation: "read", path: links, source }),
    };
    let mut programs = BTreeMap::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match sys::open_pin(&path).and_then(|link| sys::link_info(link.as_fd())) {
            Ok(info) => drop(programs.insert(entry.file_name().to_string_lossy().into_owned(), info.prog_id)),
            // A pod went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Pin { operation: "open", path, source }),
        }
    }
    Ok(programs)
}

/// A program and how it attaches.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    pub program: &'static str,
    pub kind: sys::AttachType,
    /// Of `BPF_LINK_CREATE`.
    pub flags: u32,
}

impl Attachment {
    pub fn of(hook: Hook) -> Self {
        Self { program: hook.program(), kind: hook.attach_type(), flags: 0 }
    }
}

/// Puts `program` on `target`: through the pinned link if it is still attached there, else by a
/// new link that is pinned. The link outlives us. False if the program was there already.
pub fn attach(how: Attachment, program: BorrowedFd<'_>, target: &Target<'_>, pin: &Path) -> Result<bool> {
    let failed =
        |operation| move |source| Error::Link { operation, program: how.program, target: target.label(), source };
    match replace(program, target, pin).map_err(failed("replace"))? {
        Found::Same => return Ok(false),
        Found::Other => return Ok(true),
        Found::Nothing => {}
    }
    let link = create(how, program, target).map_err(failed("attach"))?;
    sys::pin(link.as_fd(), pin).map_err(|source| Error::Pin { operation: "pin", path: pin.to_owned(), source })?;
    Ok(true)
}

/// A link that has just lost its pin detaches a moment later (`bpf_link_put_deferred`). Until then TCX refuses the program
/// that is still there (EEXIST), and XDP any program, of the same mode (EBUSY) or another (EEXIST).
fn create(how: Attachment, program: BorrowedFd<'_>, target: &Target<'_>) -> io::Result<OwnedFd> {
    let create = || sys::link_create(program, target.raw(), how.kind, how.flags);
    for _ in 0..DETACHES_WITHIN.as_millis() {
        match create() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => {
                thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
    create()
}

/// What a pin led to.
enum Found {
    /// No live link to the target.
    Nothing,
    /// One with the program.
    Same,
    /// One with another program, which has been replaced.
    Other,
}

/// A dead pin is removed.
fn replace(program: BorrowedFd<'_>, target: &Target<'_>, pin: &Path) -> io::Result<Found> {
    let link = match sys::open_pin(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let info = sys::link_info(link.as_fd())?;
    if target.matches(&info) {
        if info.prog_id == sys::program_id(program)? {
            return Ok(Found::Same);
        }
        match sys::link_update(link.as_fd(), program) {
            Ok(()) => return Ok(Found::Other),
            // The device or cgroup went away since we looked.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_file(pin)?;
    Ok(Found::Nothing)
}

/// Removes the pins of `hook`'s links to a device, which detaches them; also when the device, and
/// with it its name, is gone.
pub fn detach_device(links: &Path, hook: Hook, ifindex: u32) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pin { operation: "remove", path, source }
    };
    let suffix = format!("-{}", hook.program());
    for entry in fs::read_dir(links).map_err(failed(links))? {
        let path = entry.map_err(failed(links))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&suffix)) {
            continue;
        }
        let Ok(link) = sys::open_pin(&path) else { continue };
        let Ok(info) = sys::link_info(link.as_fd()) else { continue };
        // 0 is what a link says whose device is gone.
        if info.ifindex() == ifindex || info.ifindex() == 0 {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}
