//! The zone on disk.

use std::fs;
use std::io;
use std::path::Path;

use crate::ServiceRecord;
use crate::zone::{SharedZone, ordered};

/// Fills the zone, where there is a snapshot. Nothing is lost but a head start when it cannot be read.
pub fn load(path: &Path, zone: &SharedZone) {
    let records = match fs::read(path).map(|bytes| serde_json::from_slice::<Vec<ServiceRecord>>(&bytes)) {
        Ok(Ok(records)) => records,
        Ok(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "snapshot not understood");
            return;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "snapshot not read");
            return;
        }
    };
    tracing::info!(path = %path.display(), services = records.len(), "answering from the snapshot");
    let mut zone = zone.write();
    zone.replace_all(records);
    zone.set_known();
}

/// Written beside and renamed over, so that a crash leaves the old one or the new one.
pub fn save(path: &Path, zone: &SharedZone) -> io::Result<()> {
    let records: Vec<ServiceRecord> = ordered(&zone.read()).into_values().collect();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, serde_json::to_vec(&records)?)?;
    fs::rename(&temporary, path)
}
