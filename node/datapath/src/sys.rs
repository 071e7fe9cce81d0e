//! The bpf(2) calls that aya does not have: links by pin, link update for every program type, and
//! map batches. Layouts are `union bpf_attr` of include/uapi/linux/bpf.h.
//!
//! Every function is safe: it owns the buffers it hands to the kernel, and checks their sizes
//! against what the map says it reads and writes.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;

const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_DELETE_ELEM: i64 = 3;
const MAP_GET_NEXT_KEY: i64 = 4;
const PROG_LOAD: i64 = 5;
const OBJ_PIN: i64 = 6;
const OBJ_GET: i64 = 7;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const MAP_LOOKUP_BATCH: i64 = 24;
const MAP_UPDATE_BATCH: i64 = 26;
const MAP_DELETE_BATCH: i64 = 27;
const LINK_CREATE: i64 = 28;
const LINK_UPDATE: i64 = 29;

/// Flag of `BPF_MAP_UPDATE_ELEM`.
const BPF_NOEXIST: u64 = 1;

/// `enum bpf_attach_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum AttachType {
    SockOps = 3,
    Inet4Connect = 10,
    Inet6Connect = 11,
    Inet4PostBind = 12,
    Inet6PostBind = 13,
    Udp4Sendmsg = 14,
    Udp6Sendmsg = 15,
    Udp4Recvmsg = 19,
    Udp6Recvmsg = 20,
    Inet4Getpeername = 29,
    Inet6Getpeername = 30,
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

#[repr(C)]
#[derive(Default)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Head of what `BPF_PROG_LOAD` takes, with a log that nobody wants.
#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    kind: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
    path_fd: i32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

/// Head of `struct bpf_link_info`, whose union holds `{ cgroup_id: u64, attach_type: u32 }` or
/// `{ ifindex: u32, attach_type: u32 }` at offset 16.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub prog_id: u32,
    pub pad: u32,
    pub target: [u32; 4],
}

impl LinkInfo {
    /// Of a TCX or XDP link; 0 once its device is gone.
    pub fn ifindex(&self) -> u32 {
        self.target[0]
    }

    /// Of a cgroup link.
    pub fn cgroup_id(&self) -> u64 {
        u64::from(self.target[0]) | u64::from(self.target[1]) << 32
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(buffer: &T) -> u64 {
    std::ptr::from_ref(buffer).cast::<u8>() as u64
}

fn bpf<T>(command: i64, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is one of the structures above, laid out as the kernel's for `command`; its
    // pointers refer to buffers that outlive the call and are as large as the callers check.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: io::Result<i64>) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result?).map_err(io::Error::other)?;
    // SAFETY: the command that made `result` returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn elem(map: BorrowedFd<'_>, key: &[u8], value: u64, flags: u64) -> ElemAttr {
    ElemAttr { map_fd: raw(map), pad: 0, key: address(key), value, flags }
}

/// The value must be as large as the kernel writes: the caller has compared it with [`map_info`].
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let pointer = value.as_mut_ptr() as u64;
    match bpf(MAP_LOOKUP_ELEM, &mut elem(map, key, pointer, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    bpf(MAP_UPDATE_ELEM, &mut elem(map, key, address(value), 0)).map(drop)
}

/// False if there is such a key already.
pub fn insert(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<bool> {
    match bpf(MAP_UPDATE_ELEM, &mut elem(map, key, address(value), BPF_NOEXIST)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// False if there was no such key.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    match bpf(MAP_DELETE_ELEM, &mut elem(map, key, 0, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = elem(map, &[], next.as_mut_ptr() as u64, 0);
    attr.key = key.map_or(0, address);
    match bpf(MAP_GET_NEXT_KEY, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `count` entries; on failure says how many were written.
pub fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> Result<(), (u32, io::Error)> {
    let mut attr =
        BatchAttr { keys: address(keys), values: address(values), count, map_fd: raw(map), ..Default::default() };
    bpf(MAP_UPDATE_BATCH, &mut attr).map(drop).map_err(|error| (attr.count, error))
}

/// Deletes `count` keys; on failure (a missing key is one) says how many were deleted.
pub fn delete_batch(map: BorrowedFd<'_>, keys: &[u8], count: u32) -> Result<(), (u32, io::Error)> {
    let mut attr = BatchAttr { keys: address(keys), count, map_fd: raw(map), ..Default::default() };
    bpf(MAP_DELETE_BATCH, &mut attr).map(drop).map_err(|error| (attr.count, error))
}

/// Reads up to `count` entries from `cursor` on. Returns how many, and whether there are more.
/// ENOSPC means a bucket holds more than `count`.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    cursor: &mut Option<[u8; 64]>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let mut out = [0u8; 64];
    let mut attr = BatchAttr {
        in_batch: cursor.as_ref().map_or(0, |cursor| address(&cursor[..])),
        out_batch: out.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: raw(map),
        ..Default::default()
    };
    let result = bpf(MAP_LOOKUP_BATCH, &mut attr);
    *cursor = Some(out);
    match result {
        Ok(_) => Ok((attr.count, true)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, false)),
        Err(error) => Err(error),
    }
}

/// A map of the type, sizes and flags that `info` says. A name that is too long is cut.
pub fn map_create(name: &str, info: &MapInfo) -> io::Result<OwnedFd> {
    let MapInfo { kind, key_size, value_size, max_entries, map_flags, .. } = *info;
    let mut attr = MapCreateAttr { kind, key_size, value_size, max_entries, map_flags, ..Default::default() };
    // The last byte ends it.
    attr.name[..15].iter_mut().zip(name.bytes()).for_each(|(byte, of_name)| *byte = of_name);
    owned(bpf(MAP_CREATE, &mut attr))
}

/// A program of type `kind` of these instructions (`struct bpf_insn`), which calls nothing that asks for the GPL.
pub fn prog_load(kind: u32, insns: &[u64], flags: u32) -> io::Result<OwnedFd> {
    let license = c"MIT";
    let insn_cnt = u32::try_from(insns.len()).map_err(io::Error::other)?;
    let license = license.as_ptr() as u64;
    let insns = address(insns);
    let mut attr = ProgLoadAttr { kind, insn_cnt, insns, license, prog_flags: flags, ..Default::default() };
    owned(bpf(PROG_LOAD, &mut attr))
}

pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: raw(map),
        info_len: size_of::<MapInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Waits until no CPU runs a program that was replaced before the call (`synchronize_rcu`). Kernels with `nohz_full` do not
/// offer it: programs run for microseconds.
pub fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    const NO_FLAGS: libc::c_long = 0;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, NO_FLAGS) } != 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The kernel's number of a loaded program.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // Head of `struct bpf_prog_info`: type, id.
    let mut info = [0u32; 2];
    let mut attr = InfoAttr {
        bpf_fd: raw(program),
        info_len: size_of_val(&info) as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[1])
}

pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: raw(link),
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: raw(object), ..Default::default() };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, ..Default::default() };
    owned(bpf(OBJ_GET, &mut attr))
}

/// `target` is an interface index for TCX and XDP, and a cgroup's descriptor otherwise.
pub fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: AttachType, flags: u32) -> io::Result<OwnedFd> {
    let attach_type = attach_type as u32;
    let mut attr = LinkCreateAttr { prog_fd: raw(program), target, attach_type, flags, ..Default::default() };
    owned(bpf(LINK_CREATE, &mut attr))
}

/// Replaces the link's program atomically.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr { link_fd: raw(link), new_prog_fd: raw(program), ..Default::default() };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

/// The bytes of keys or values.
pub fn bytes<T: Pod>(items: &[T]) -> &[u8] {
    // SAFETY: the range is the slice's own, and a `Pod` type has no padding, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(items.as_ptr().cast(), size_of_val(items)) }
}

pub fn bytes_mut<T: Pod>(items: &mut [T]) -> &mut [u8] {
    // SAFETY: as above; every bit pattern is a value of a `Pod` type.
    unsafe { std::slice::from_raw_parts_mut(items.as_mut_ptr().cast(), size_of_val(items)) }
}

pub fn zeroed<T: Pod>() -> T {
    // SAFETY: every bit pattern is a value of a `Pod` type.
    unsafe { std::mem::zeroed() }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
