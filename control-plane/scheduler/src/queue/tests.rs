use serde_json::json;

use super::*;
use crate::cluster::tests::pod;
use crate::framework::Plugin;

fn info(name: &str, priority: i32) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(&pod(name, json!({"spec": {"priority": priority}}))))
}

fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.pop(now)).map(|info| info.name.clone()).collect()
}

#[test]
fn the_most_important_pod_is_first_then_the_oldest() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10), ("gone", 99)] {
        queue.put(info(name, priority), now);
    }
    queue.remove("gone");
    assert_eq!(names(&mut queue, now), ["b", "d", "a", "c"]);
}

#[test]
fn an_unschedulable_pod_waits_for_what_may_help() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    queue.put(info("a", 0), start);
    let a = queue.pop(start).unwrap();
    queue.park(&a.uid, [Plugin::NodeResourcesFit].into(), start);
    let later = start + Duration::from_secs(2);
    queue.wake([Plugin::NodePorts].into(), later);
    assert!(queue.pop(later).is_none());
    queue.wake([Plugin::NodeResourcesFit, Plugin::NodePorts].into(), later);
    assert_eq!(names(&mut queue, later), ["a"]);
}

#[test]
fn attempts_back_off_up_to_ten_seconds() {
    let (mut queue, mut now) = (Queue::default(), Instant::now());
    queue.put(info("a", 0), now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        let a = queue.pop(now).unwrap();
        queue.park(&a.uid, Plugins::all(), now);
        queue.wake(Plugins::all(), now);
        assert!(queue.pop(now).is_none());
        let due = queue.tick(now).unwrap();
        assert_eq!(due - now, Duration::from_secs(seconds));
        now = due;
        queue.tick(now);
    }
}

#[test]
fn no_pod_is_forgotten() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(info("a", 0), now);
    let a = queue.pop(now).unwrap();
    queue.park(&a.uid, Plugins::default(), now);
    let due = queue.tick(now).unwrap();
    assert_eq!(due - now, UNSCHEDULABLE_MAX);
    queue.tick(due);
    assert_eq!(names(&mut queue, due), ["a"]);
}

#[test]
fn a_change_of_the_pod_makes_it_active() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    queue.put(info("a", 0), start);
    let a = queue.pop(start).unwrap();
    queue.put(info("a", 5), start);
    assert!(queue.pop(start).is_none(), "it is being tried");
    queue.park(&a.uid, Plugins::default(), start);
    let later = start + Duration::from_secs(1);
    queue.put(info("a", 7), later);
    assert_eq!(queue.pop(later).unwrap().priority, 7);
    queue.remove("a");
    assert!(queue.is_empty());
}
