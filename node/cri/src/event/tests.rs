use super::*;

fn exit(container: &str, id: &str) -> Vec<u8> {
    TaskExit { container_id: container.into(), id: id.into(), exit_status: 3, ..Default::default() }.encode_to_vec()
}

#[test]
fn an_exec_that_ends_is_no_event() {
    assert_eq!(decode("/tasks/exit", &exit("c", "exec-1")), None);
    assert_eq!(
        decode("/tasks/exit", &exit("c", "c")),
        Some(Event::Exited { container_id: "c".into(), exit_status: 3 })
    );
    assert_eq!(decode("/tasks/paused", &[]), None);
    assert_eq!(decode("/tasks/oom", b"\xff\xff"), None);
}
