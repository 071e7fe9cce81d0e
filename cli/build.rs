//! Relative relocations packed (DT_RELR, glibc 2.36): 3 MB less of binary.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
