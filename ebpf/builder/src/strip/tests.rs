use object::{
    Endianness, Object, ObjectSection,
    build::elf::SectionData,
    elf::{ET_REL, SHT_PROGBITS, SHT_STRTAB},
};

use super::*;

fn names(object: &[u8]) -> Vec<String> {
    let file = object::File::parse(object).expect("an object");
    file.sections().map(|section| section.name().expect("a name").to_owned()).collect()
}

#[test]
fn dwarf_goes_and_what_is_loaded_stays() {
    let mut builder = Builder::new(Endianness::Little, true);
    builder.header.e_type = ET_REL;
    for name in ["classifier", ".BTF", ".BTF.ext", ".rel.BTF.ext", ".debug_info", ".rel.debug_info", ".debug_str"] {
        let section = builder.sections.add();
        section.name = name.into();
        section.sh_type = SHT_PROGBITS;
        section.data = SectionData::Data(vec![7; 8].into());
    }
    let table = builder.sections.add();
    table.name = ".shstrtab".into();
    table.sh_type = SHT_STRTAB;
    table.data = SectionData::SectionString;
    let mut whole = Vec::new();
    builder.write(&mut whole).expect("an object");
    assert!(names(&whole).contains(&".rel.debug_info".to_owned()), "{:?}", names(&whole));
    let stripped = debug_info(&whole).expect("an object");
    assert_eq!(names(&stripped), ["classifier", ".BTF", ".BTF.ext", ".rel.BTF.ext", ".shstrtab"]);
    let file = object::File::parse(&*stripped).expect("an object");
    assert_eq!(file.section_by_name(".BTF").expect("kept").data().expect("bytes"), [7; 8]);
}

#[test]
fn what_is_no_object_is_an_error() {
    assert!(debug_info(b"no object").is_err());
}
