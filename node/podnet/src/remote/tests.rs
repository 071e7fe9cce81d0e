#![allow(clippy::unwrap_used)]

use super::*;

fn route(dst: &str, via: &str) -> Route {
    Route::new(dst.parse().unwrap()).via(via.parse().unwrap()).dev(7).protocol(ROUTE_PROTOCOL)
}

#[test]
fn only_routes_of_ours_to_other_nodes_are_touched() {
    let pod = Route::new("10.244.1.5/32".parse().unwrap()).dev(9).link_scope().protocol(ROUTE_PROTOCOL);
    let foreign = Route::new("10.9.0.0/16".parse().unwrap()).dev(9);
    let (same, moved) = (route("10.244.2.0/24", "172.30.0.12"), route("10.244.3.0/24", "172.30.0.13"));
    let stale = route("10.244.4.0/24", "172.30.0.14");
    let stale6 = route("fd00:244:4::/64", "fd00::14");
    let pod6 = Route::new("fd00:244:1::5/128".parse().unwrap()).dev(9).protocol(ROUTE_PROTOCOL);
    let actual = [pod, pod6, foreign, same.clone(), moved, stale.clone(), stale6.clone()];
    let desired = [same, route("10.244.3.0/24", "172.30.0.23"), route("fd00:244:5::/64", "fd00::15")];
    let changes = diff(&actual, &desired);
    assert_eq!(changes.replace, desired[1..]);
    assert_eq!(changes.delete, [stale, stale6]);
    let settled: Vec<Route> = actual[..3].iter().chain(&desired).cloned().collect();
    assert_eq!(diff(&settled, &desired), Changes::default());
}
