use super::*;

#[test]
fn every_pinned_map_has_a_layout() {
    let all: HashSet<&str> = all(MapLayout::Current).into_iter().map(|(map, _)| map).collect();
    assert_eq!(all, HashSet::from(names::PINNED_MAPS));
}

/// Fails when a type of the maps changes. Then keep the type as it was under another name, write `From` in both directions
/// where programs write the map, add a step in `step.rs` for each map that has it, and write the new numbers here.
#[test]
fn the_layouts_are_those_of_the_first_version() {
    let printed: Vec<String> =
        all(MapLayout::Current).iter().map(|(map, number)| format!("    (\"{map}\", {number:#018x}),")).collect();
    assert_eq!(all(MapLayout::Current), first::NUMBERS, "\n{}", printed.join("\n"));
}

#[test]
fn the_rehearsal_is_another_layout_of_flows_alone() {
    let other = all(MapLayout::Rehearsal);
    let changed: Vec<&str> = all(MapLayout::Current)
        .into_iter()
        .zip(other)
        .filter(|(one, other)| one != other)
        .map(|(one, _)| one.0)
        .collect();
    assert_eq!(changed, ["xb_ct4", "xb_nat4", "xb_ct6", "xb_nat6"]);
}
