//! Agents that die, restart, change their programs and the layout of their maps take no packet with them.

use xebec_tests::{Cluster, Options, text};

#[test]
fn an_upgrade_loses_no_packet_and_no_connection() {
    for routing in ["vxlan", "native"] {
        let cluster = Cluster::up(&Options { routing, ..Options::default() });
        let proof = cluster.xebec("upgrade prove", &["--runs", "4"]);
        assert!(proof.status.success(), "{routing}: {}\n{}", text(&proof), cluster.logs());
        let said = String::from_utf8_lossy(&proof.stdout).into_owned();
        for change in ["agent killed and started again (kill), 4 times", "agent restarted (restart), 4 times"] {
            assert!(said.contains(change), "{routing}: {said}");
        }
        assert!(said.contains("programs swapped (swap), 4 times"), "{routing}: {said}");
        assert!(said.contains("map layouts migrated (migrate), 4 times"), "{routing}: {said}");
        assert_eq!(said.matches(" 0 lost, 0 duplicated, 0 reset").count(), 4, "{routing}: {said}");
        assert!(!said.contains(": 0 sent"), "{routing}: {said}");
    }
}
