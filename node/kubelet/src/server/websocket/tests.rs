use super::*;

#[test]
fn messages_carry_a_channel_or_its_end() {
    let table = [
        (vec![0, b'a'], Some(Input::Data(0, Bytes::from_static(b"a")))),
        (vec![4], Some(Input::Data(4, Bytes::new()))),
        (vec![255, 0], Some(Input::Closed(0))),
        (vec![], None),
    ];
    for (bytes, want) in table {
        assert_eq!(parse(&Bytes::from(bytes.clone())), want, "{bytes:?}");
    }
}
