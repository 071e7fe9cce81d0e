//! Clusters on a development machine whose disk is nearly full.

use super::layout::Layout;

/// Free below this, nodes would soon be under pressure by upstream's thresholds: 10 % for pods, 15 % for images.
const TIGHT_PERCENT: u64 = 20;

/// The thresholds for nodes of a cluster whose disk is nearly full, which says nothing about the cluster; `None` where
/// there is room enough for upstream's.
pub fn relaxed(layout: &Layout) -> Option<&'static str> {
    let existing = layout.dir().ancestors().find(|path| path.exists())?;
    let stat = nix::sys::statvfs::statvfs(existing).ok()?;
    is_tight(stat.blocks(), stat.blocks_available())
        .then_some("memory.available<100Mi,nodefs.available<1%,imagefs.available<1%")
}

fn is_tight(blocks: u64, available: u64) -> bool {
    available * 100 < blocks * TIGHT_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_relaxed_on_tight_disks_alone() {
        assert!(!is_tight(1000, 200));
        assert!(is_tight(1000, 199));
    }

    #[test]
    fn relaxed_thresholds_are_thresholds() {
        let layout = Layout::new(std::path::Path::new("/")).expect("a layout");
        let text = relaxed(&layout).unwrap_or("memory.available<100Mi");
        assert!(text.parse::<xebec_agent::Thresholds>().is_ok());
    }
}
