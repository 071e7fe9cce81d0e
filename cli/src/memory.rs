//! A daemon gives back what only its start needed, a third of what it has resident by then, and later what a crowd of changes
//! did, or programs that were loaded again.

use std::ffi::{c_int, c_void};
use std::time::Duration;

/// Programs are loaded, caches filled and the first certificates checked by then.
const START: Duration = Duration::from_secs(10);
/// Between two later times: what is unmapped and still needed is mapped again within milliseconds.
const PERIOD: Duration = Duration::from_mins(5);

/// [`START`] after the call, and every [`PERIOD`] after that, for ever: see [`trim`].
pub async fn trim_for_ever() {
    tokio::time::sleep(START).await;
    loop {
        trim();
        tokio::time::sleep(PERIOD).await;
    }
}

/// Free heap goes back to the kernel (malloc_trim(3)), and the pages of this binary that are mapped are unmapped
/// (madvise(2), MADV_DONTNEED). Those in use come back from the page cache at the next access, without a read of the disk.
fn trim() {
    // SAFETY: malloc_trim may be called at any time; the callback keeps to dl_iterate_phdr's contract.
    unsafe {
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut());
    }
}

/// For the first object, which is the program itself (`dl_iterate_phdr(3)`): drops the pages of segments that nobody
/// writes. Relocated data is in a writable segment, even where it is read-only afterwards (RELRO), and stays.
unsafe extern "C" fn unmap(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader gives one valid object, whose program headers live as long as it does.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    // SAFETY: sysconf only reads.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr) / page * page;
        let length = base + header.p_vaddr + header.p_memsz - start;
        // SAFETY: clean pages of a mapped file: the next access reads the same bytes from it again.
        let advised = unsafe { libc::madvise(start as *mut c_void, length as usize, libc::MADV_DONTNEED) };
        if advised != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "pages of the binary stay mapped");
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Resident pages of files in bytes (proc_pid_status(5), RssFile).
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("RssFile");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    #[test]
    fn the_binary_is_unmapped_and_goes_on() {
        // Relocated, and so in what must stay: a table of pointers.
        static WORDS: [&str; 3] = ["one", "two", "three"];
        std::hint::black_box(Box::new(crate::Cli::command())).render_long_help();
        let before = resident();
        trim();
        assert!(resident() < before, "{before}");
        assert_eq!(std::hint::black_box(&WORDS).concat(), "onetwothree");
        assert!(std::hint::black_box(crate::Cli::command()).render_long_help().to_string().contains("agent"));
    }
}
