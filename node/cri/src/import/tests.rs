use std::io::Write;

use super::archive::Archive;
use super::*;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
    builder.into_inner().unwrap()
}

fn stream(bytes: Vec<u8>) -> Source {
    Source::Stream(Box::new(std::io::Cursor::new(bytes)))
}

#[test]
fn entries_are_read_by_clean_name_and_through_links() {
    let tar = tar_of(&[("./a/layer.tar", b"layer"), ("manifest.json", b"[]")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for bytes in [tar, gzip.finish().unwrap()] {
        let archive = Archive::open(stream(bytes)).unwrap();
        assert!(archive.has("manifest.json"));
        assert_eq!(archive.document("b/layer.tar").unwrap(), b"layer");
        let digest = archive.digest(archive.extent("a/layer.tar").unwrap()).unwrap();
        assert_eq!(digest, archive::digest_of(b"layer"));
        assert!(archive.document("c").unwrap_err().to_string().contains("no file c"));
    }
}

#[test]
fn bytes_that_are_no_archive_are_an_error() {
    for bytes in [vec![7_u8; 2048], b"\x1f\x8bnot gzip".to_vec()] {
        assert!(Archive::open(stream(bytes)).is_err());
    }
}

#[test]
fn layers_are_recognised_by_their_first_bytes() {
    assert!(docker::layer_media_type(&[0x1f, 0x8b, 8, 0]).ends_with("gzip"));
    assert!(docker::layer_media_type(&[0x28, 0xb5, 0x2f, 0xfd]).ends_with("zstd"));
    assert!(docker::layer_media_type(b"./").ends_with("tar"));
}
