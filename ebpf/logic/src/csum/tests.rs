use super::*;
use crate::model::checksum;

/// Replaces a word of a message and compares the updated checksum with one computed anew.
#[track_caller]
fn check(message: &[u8], offset: usize, new: [u8; 4]) {
    let before = checksum(message, 0);
    let old = [message[offset], message[offset + 1], message[offset + 2], message[offset + 3]];
    let mut changed = message.to_vec();
    changed[offset..offset + 4].copy_from_slice(&new);
    let expected = checksum(&changed, 0);
    let field = before.to_be_bytes();
    let updated = update(field, diff(u32::from_ne_bytes(old), u32::from_ne_bytes(new)));
    assert_eq!(updated, expected.to_be_bytes(), "{message:?} at {offset} becomes {new:?}");
}

#[test]
fn an_updated_checksum_equals_a_computed_one() {
    let message: Vec<u8> = (1..=40).collect();
    check(&message, 0, [10, 0, 0, 1]);
    check(&message, 4, [255, 255, 255, 255]);
    check(&message, 8, [0, 0, 0, 0]);
    check(&message, 36, [1, 2, 3, 4]);
    check(&[0xff; 8], 0, [0, 0, 0, 1]);
    check(&[0, 1, 0, 0, 0, 0, 0, 0], 4, [0xab, 0xcd, 0xff, 0xfe]);
}

/// RFC 1624 section 4: the example that RFC 1141 gets wrong.
#[test]
fn the_corner_case_of_rfc_1624_is_right() {
    let diff = diff(0x5555, 0x3285);
    assert_eq!(update(0xdd2fu16.to_ne_bytes(), diff), 0x0000u16.to_ne_bytes());
}

#[test]
fn every_change_of_a_port_agrees() {
    for port in (0..=u16::MAX).step_by(97) {
        let [a, b] = port.to_be_bytes();
        check(&[0x12, 0x34, 0x00, 0x50, 0x45, 0x00, 0xff, 0xff], 0, [0x12, 0x34, a, b]);
    }
}
