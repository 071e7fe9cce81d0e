use super::*;

#[test]
fn names_are_spelled_as_cri_spells_them() {
    let table = [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.xebec.test/pause:1", "registry.xebec.test/pause:1"),
        ("a@sha256:00", "docker.io/library/a@sha256:00"),
        ("a:1@sha256:00", "docker.io/library/a:1@sha256:00"),
    ];
    for (given, want) in table {
        assert_eq!(normalize(given), want, "{given}");
    }
}

#[test]
fn an_image_by_digest_has_no_tag() {
    assert_eq!(tag("a@sha256:00"), None);
    assert_eq!(tag("a"), Some("latest".into()));
    assert_eq!(tag("localhost:5000/app:v2"), Some("v2".into()));
}
