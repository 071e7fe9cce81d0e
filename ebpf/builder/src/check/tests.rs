use super::*;

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let problems: Vec<_> = object(bytes).iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    check(b"", "not an ELF object");
    check(b"\x7fELF", "not an ELF object");
    check(&[0; 64], "not an ELF object");
}

#[test]
fn an_object_without_programs_is_refused() {
    // This test's own executable: an ELF file, but no BPF object.
    let own = std::fs::read(std::env::current_exe().expect("current_exe")).expect("read");
    check(&own, "holds no program");
}
