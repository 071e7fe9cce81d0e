use super::*;
use xebec_types::apps::StatefulSet;
use xebec_types::core::{Container, PodSpec};
use xebec_types::label;

fn of(image: &str) -> PodTemplateSpec {
    let container = Container { image: Some(image.into()), ..Container::default() };
    PodTemplateSpec {
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        ..PodTemplateSpec::default()
    }
}

fn owner() -> StatefulSet {
    let mut owner = StatefulSet::default();
    owner.metadata.name = Some("web".into());
    owner
}

/// What the template is to a history of templates, oldest first.
fn find(history: &[&str], image: &str) -> Newest {
    let owner = owner();
    let mut known = Vec::new();
    for past in history {
        match newest(&known, &subject(&owner, &of(past))) {
            Newest::Create(revision) => known.push(Arc::new(*revision)),
            Newest::Renumber(revision, number) => {
                known.retain(|r| *r != revision);
                known.push(Arc::new(ControllerRevision { revision: number, ..ControllerRevision::clone(&revision) }));
            }
            Newest::Is(_) => {}
        }
        sort(&mut known);
    }
    newest(&known, &subject(&owner, &of(image)))
}

fn subject<'a>(owner: &'a StatefulSet, template: &'a PodTemplateSpec) -> Subject<'a, StatefulSet> {
    Subject { owner, template, collision_count: None, hash_label: label::REVISION_DATA_HASH }
}

#[track_caller]
fn check(history: &[&str], image: &str, expected: (&str, i64)) {
    let found = match find(history, image) {
        Newest::Is(revision) => ("is", revision.revision),
        Newest::Renumber(_, number) => ("renumber", number),
        Newest::Create(revision) => ("create", revision.revision),
    };
    assert_eq!(found, expected, "{image} after {history:?}");
}

#[test]
fn a_template_is_found_in_its_history() {
    check(&[], "a", ("create", 1));
    check(&["a"], "a", ("is", 1));
    check(&["a"], "b", ("create", 2));
    check(&["a", "b"], "a", ("renumber", 3));
    check(&["a", "b", "a"], "a", ("is", 3));
    check(&["a", "b", "a"], "b", ("renumber", 4));
}

#[test]
fn a_revision_gives_its_template_back() {
    let Newest::Create(revision) = find(&[], "a") else { panic!("a first revision is created") };
    assert_eq!(template(&revision), Some(of("a")));
    let data = revision.data.expect("data").0;
    assert_eq!(data["spec"]["template"]["$patch"], "replace");
}

#[test]
fn a_collision_gives_another_name() {
    let (owner, template) = (owner(), of("a"));
    let mut names = std::collections::BTreeSet::new();
    for collision_count in [None, Some(1), Some(2)] {
        let Newest::Create(revision) = newest(&[], &Subject { collision_count, ..subject(&owner, &template) }) else {
            panic!("a first revision is created");
        };
        names.insert(revision.metadata.name);
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn surplus_history_goes_oldest_first_and_never_what_runs() {
    let owner = owner();
    let mut known: Vec<Arc<ControllerRevision>> = Vec::new();
    for image in ["a", "b", "c", "d"] {
        if let Newest::Create(revision) = newest(&known, &subject(&owner, &of(image))) {
            known.push(Arc::new(*revision));
        }
    }
    let numbers = |limit, live: i64| {
        let surplus = surplus(&known, limit, |r| r.revision == live);
        surplus.iter().map(|r| r.revision).collect::<Vec<_>>()
    };
    assert_eq!(numbers(1, 4), [1, 2]);
    assert_eq!(numbers(1, 1), [2, 3]);
    assert_eq!(numbers(10, 4), Vec::<i64>::new());
    assert_eq!(numbers(-1, 4), Vec::<i64>::new(), "negative keeps all, as upstream");
}
