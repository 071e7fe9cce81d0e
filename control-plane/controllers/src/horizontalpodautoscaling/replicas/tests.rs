use super::*;

fn pods(used: &[i64], unready: usize, missing: usize) -> Pods<'static> {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let all = used.len() + unready + missing;
    Pods {
        used: NAMES.into_iter().zip(used.iter().copied()).collect(),
        requested: NAMES[..all].iter().map(|name| (*name, 1000)).collect(),
        unready: NAMES[used.len()..used.len() + unready].to_vec(),
        missing: NAMES[used.len() + unready..all].to_vec(),
    }
}

#[track_caller]
fn check(pods: &Pods<'_>, target: Target, current: i32, expected: i32) {
    assert_eq!(per_pod(pods, target, current, TOLERANCE).map(|p| p.replicas), Ok(expected));
}

#[test]
fn use_in_proportion_to_the_target() {
    let half = Target::Utilization(50);
    check(&pods(&[500, 500], 0, 0), half, 2, 2);
    check(&pods(&[540, 540], 0, 0), half, 2, 2);
    check(&pods(&[1000, 1000], 0, 0), half, 2, 4);
    check(&pods(&[100, 100, 100, 100], 0, 0), half, 4, 1);
    check(&pods(&[300, 500, 700], 0, 0), Target::Average(300), 3, 5);
}

#[test]
fn pods_without_figures_make_the_change_smaller() {
    let half = Target::Utilization(50);
    check(&pods(&[1000, 1000], 2, 0), half, 4, 4);
    check(&pods(&[1000, 1000, 1000], 1, 0), half, 4, 6);
    check(&pods(&[100, 100], 0, 2), half, 4, 4);
    check(&pods(&[1000, 1000], 0, 1), half, 3, 4);
}

#[test]
fn nothing_is_said_without_figures() {
    let none = per_pod(&Pods::default(), Target::Utilization(50), 1, TOLERANCE);
    assert_eq!(none, Err("did not receive metrics for targeted pods (pods might be unready)".to_owned()));
    let free = Pods { requested: BTreeMap::new(), ..pods(&[1], 0, 0) };
    assert!(per_pod(&free, Target::Utilization(50), 1, TOLERANCE).is_err());
    assert!(per_pod(&free, Target::Average(1), 1, TOLERANCE).is_ok());
}

#[test]
fn one_figure_for_all_pods() {
    let check = |used: i64, target: Target, current: i32, expected: i32| {
        assert_eq!(total(used, target, current, current, TOLERANCE).replicas, expected);
    };
    check(20_000, Target::Total(10_000), 3, 6);
    check(10_500, Target::Total(10_000), 3, 3);
    check(50_000, Target::Average(10_000), 3, 5);
    check(31_000, Target::Average(10_000), 3, 3);
    check(20_000, Target::Total(10_000), 0, 2);
}
