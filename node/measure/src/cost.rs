//! What the programs cost per packet, by `BPF_PROG_TEST_RUN`: without device and stack.

use anyhow::Result;

use crate::figure::Report;

/// # Errors
/// When the programs cannot be loaded or run.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    for cost in xebec_datapath::cost::per_packet(if smoke { 20 } else { 4_000 })? {
        report.add(format!("{}_ns", cost.name), "ns", cost.time.as_nanos() as f64, None);
    }
    Ok(())
}
