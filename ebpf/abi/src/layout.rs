//! What lies where in the keys and values of maps, as one number: programs and agents that have the same one read the same.
//!
//! It is made of the fields' names, offsets, sizes and types, at compile time. A field that gets another meaning, and keeps
//! its place, needs another name.

/// Has a layout.
pub trait Layout {
    const FINGERPRINT: u64;
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): a `const fn`, unlike the hashers of `core`.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// `hash`, and `bytes` after it.
pub const fn text(mut hash: u64, bytes: &str) -> u64 {
    let bytes = bytes.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(PRIME);
        i += 1;
    }
    number(hash, bytes.len() as u64)
}

/// `hash`, and `value` after it.
pub const fn number(mut hash: u64, value: u64) -> u64 {
    let bytes = value.to_le_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(PRIME);
        i += 1;
    }
    hash
}

/// Of a type without parts.
pub const fn plain(name: &str, size: usize) -> u64 {
    number(text(BASIS, name), size as u64)
}

/// Of a structure, before its fields.
pub const fn structure(size: usize) -> u64 {
    plain("structure", size)
}

/// `hash`, and a field after it.
pub const fn field(hash: u64, name: &str, offset: usize, fingerprint: u64) -> u64 {
    number(number(text(hash, name), offset as u64), fingerprint)
}

/// Of the entries of a map.
pub const fn entry(key: u64, value: u64) -> u64 {
    number(number(plain("entry", 0), key), value)
}

/// The fingerprint of what a function takes out of `S`: a macro that knows a field's name need not know its type.
pub const fn of<S, F: Layout>(_: fn(&S) -> &F) -> u64 {
    F::FINGERPRINT
}

impl<T: Layout, const N: usize> Layout for [T; N] {
    const FINGERPRINT: u64 = number(plain("array", size_of::<Self>()), T::FINGERPRINT);
}

/// Types whose parts are nobody's business.
macro_rules! whole {
    ($($ty:ty),* $(,)?) => { $(
        impl $crate::layout::Layout for $ty {
            const FINGERPRINT: u64 = $crate::layout::plain(stringify!($ty), size_of::<Self>());
        }
    )* };
}

/// Structures, with every field.
macro_rules! fields {
    ($($ty:ident { $($field:ident),* $(,)? })*) => { $(
        impl $crate::layout::Layout for $ty {
            const FINGERPRINT: u64 = {
                // Names each of them.
                let _ = |$ty { $($field: _),* }: $ty| {};
                let hash = $crate::layout::structure(size_of::<Self>());
                $(let hash = $crate::layout::field(
                    hash,
                    stringify!($field),
                    core::mem::offset_of!(Self, $field),
                    $crate::layout::of::<Self, _>(|whole| &whole.$field),
                );)*
                hash
            };
        }
    )* };
}

pub(crate) use {fields, whole};

whole!(u8, u16, u32, u64);
