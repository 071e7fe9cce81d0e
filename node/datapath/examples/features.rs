//! Prints which of the features that the datapath chooses by the running kernel has, for `cargo xtask vm`. Needs root.

use xebec_datapath::testing;
use xebec_netlink::Netns;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = testing::config();
    config.netns_cookie = Netns::current()?.cookie()?.unwrap_or_default();
    for feature in testing::features(&config)? {
        println!("{} {}", feature.name, if feature.present { "yes" } else { "no" });
    }
    Ok(())
}
