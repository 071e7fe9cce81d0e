//! Prints which of the features that the datapath chooses by the running kernel has, for `cargo xtask vm`. Needs root.

use xebec_datapath::testing;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, present) in testing::features(&testing::config())? {
        println!("{name} {}", if present { "yes" } else { "no" });
    }
    Ok(())
}
