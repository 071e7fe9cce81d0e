use super::*;

const SECTION: SectionIndex = SectionIndex(1);

const fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_le_bytes(), immediate.to_le_bytes());
    [opcode, from << 4 | to, o0, o1, i0, i1, i2, i3]
}

#[test]
fn a_frame_reaches_as_far_as_its_lowest_access() {
    #[track_caller]
    fn check(code: &[[u8; 8]], expected: u32) {
        assert_eq!(scan(code.as_flattened(), SECTION, 0, &HashMap::new()).frame, expected);
    }
    check(&[instruction(0x95, 0, 0, 0, 0)], 0);
    check(&[instruction(0x7b, 10, 1, -16, 0), instruction(0x63, 10, 1, -20, 0)], 20);
    check(&[instruction(0x79, 1, 10, -8, 0)], 8);
    // r2 = r10; r2 += -48: what a helper is given.
    check(&[instruction(0xbf, 2, 10, 0, 0), instruction(0x07, 2, 0, 0, -48)], 48);
    // ... and *(r2 - 8) = r1.
    let pointer = [instruction(0xbf, 2, 10, 0, 0), instruction(0x07, 2, 0, 0, -48)];
    check(&[pointer[0], pointer[1], instruction(0x7b, 2, 1, -8, 0)], 56);
    // r2 = r1 is no pointer into the frame.
    check(&[pointer[0], instruction(0xbf, 2, 1, 0, 0), instruction(0x07, 2, 0, 0, -48)], 0);
}

#[test]
fn a_call_leads_to_its_function() {
    #[track_caller]
    fn check(start: u64, immediate: i32, targets: &[(u64, Place)], expected: Place) {
        let code = instruction(0x85, 0, 1, 0, immediate);
        let targets = targets.iter().copied().collect();
        assert_eq!(scan(&code, SECTION, start, &targets).calls, [expected]);
    }
    check(0, 4, &[], (SECTION, 40));
    check(80, -3, &[], (SECTION, 64));
    // By relocation: from the section's start, or from a function's.
    check(80, 9, &[(80, (SectionIndex(2), 0))], (SectionIndex(2), 80));
    check(80, -1, &[(80, (SectionIndex(2), 160))], (SectionIndex(2), 160));
    // A helper's number is no place.
    let helper = scan(&instruction(0x85, 0, 0, 0, 1), SECTION, 0, &HashMap::new());
    assert!(helper.calls.is_empty());
}

#[test]
fn the_deepest_chain_counts() {
    let function = |name: &str, frame, calls: &[u64]| {
        let calls = calls.iter().map(|at| (SECTION, *at)).collect();
        Function { name: name.to_owned(), frame, calls }
    };
    let functions = HashMap::from([
        ((SECTION, 0), function("program", 264, &[8, 16])),
        ((SECTION, 8), function("wide", 170, &[])),
        ((SECTION, 16), function("deep", 100, &[24, 16])),
        ((SECTION, 24), function("empty", 0, &[])),
    ]);
    let chain = chain(&functions, (SECTION, 0), &[]);
    assert_eq!(chain, Chain { names: ["program", "wide"].map(str::to_owned).to_vec(), bytes: 288 + 192 });
    let deep = super::chain(&functions, (SECTION, 16), &[]);
    assert_eq!(deep, Chain { names: ["deep", "empty"].map(str::to_owned).to_vec(), bytes: 128 + 32 });
}
