use std::collections::HashMap;

use super::*;

#[test]
fn every_pinned_map_has_a_layout() {
    let all: HashSet<&str> = all(MapLayout::Current).into_iter().map(|(map, _)| map).collect();
    assert_eq!(all, HashSet::from(names::PINNED_MAPS));
}

/// The numbers of layouts that are not the first version's.
const LATER: [(&str, u64); 2] = [("xb_lb4_fe", 0x46c3_724a_32da_70ff), ("xb_lb6_fe", 0x337f_4914_3d93_2e6f)];

/// Fails when a type of the maps changes. Then keep the type as it was under another name, write `From` in both directions
/// where programs write the map, add a step in `step.rs` for each map that has it, and write the new numbers above.
#[test]
fn the_layouts_are_known() {
    let later: HashMap<&str, u64> = HashMap::from(LATER);
    let known = first::NUMBERS.map(|(map, number)| (map, later.get(map).copied().unwrap_or(number)));
    let printed: Vec<String> =
        all(MapLayout::Current).iter().map(|(map, number)| format!("    (\"{map}\", {number:#018x}),")).collect();
    assert_eq!(all(MapLayout::Current), known, "\n{}", printed.join("\n"));
}

#[test]
fn every_layout_of_the_first_version_leads_to_todays() {
    let steps = step::all();
    for ((map, from), (_, to)) in first::NUMBERS.iter().zip(all(MapLayout::Current)) {
        assert!(step::path(&steps, map, *from, to).is_some(), "{map}");
    }
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
