//! The generated table. A line reads:
//!
//! ```text
//! package io.k8s.api.core.v1
//! def PodSpec [atomic] [gvk=group/version/Kind]
//!  volumes [.Volume 1 [required] [map=name | set] [atomic] [merge=name] [retain-keys] [default=TCP]
//! ```
//! A field is its name, the code of its type (see [`Parser::ty`]; `[` list of, `{` map of, `.X` a definition of the same package, otherwise a full name;
//! `|[.X` an X or a list of them, `|b.X` an X or a boolean, `|s.X` an X or a list of strings) and its protobuf field number; `2.1` is field 1 of the message in field 2, where Go embeds a struct.

use std::collections::HashMap;

type Str = &'static str;

/// Which definition: an index into the schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DefId(u16);

impl DefId {
    pub(crate) fn new(index: usize) -> Self {
        // The table has some 600 definitions.
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// An object of any kind.
    RawExtension,
    FieldsV1,
    /// Any JSON, kept as JSON bytes in protobuf.
    Json,
    /// Anything at all; no protobuf form.
    Any,
    /// An object, or something else in its place (`JSONSchemaPropsOrArray` and its like).
    Or(DefId, Alternative),
    /// A list of strings that protobuf wraps in a message (`ExtraValue`).
    WrappedStrings,
    Object(DefId),
    List(&'static Type),
    Map(&'static Type),
}

/// What may stand in the place of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alternative {
    Bool,
    /// A list of such objects.
    List,
    Strings,
}

/// How lists merge in server-side apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// The fields that make an item's key.
    Map(&'static [Str]),
}

/// A field of a definition.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Str,
    pub ty: Type,
    /// Path of protobuf field numbers, zeros behind; `[0, 0, 0]` if it has none.
    pub proto: [u16; 3],
    pub required: bool,
    pub list_type: ListType,
    /// The map, or the object, is replaced as a whole by apply.
    pub atomic: bool,
    /// Strategic merge: merge lists instead of replacing them; by this key, or as a set of scalars when it is empty.
    pub patch_merge_key: Option<Str>,
    /// Strategic merge: a patch may say which keys stay.
    pub retain_keys: bool,
    /// What the field is when it is absent. Defaults that depend on the rest of the object are the registry's.
    pub default: Option<Str>,
    /// In upstream's Go type the field is in every object, if only with its zero.
    pub always: bool,
}

/// A type with fields.
#[derive(Clone, Debug)]
pub struct Definition {
    pub package: Str,
    pub name: Str,
    /// Group, version and kind, if objects of this type stand alone.
    pub gvk: Option<(Str, Str, Str)>,
    /// Replaced as a whole by apply.
    pub atomic: bool,
    /// Sorted by name.
    pub fields: Vec<Field>,
}

impl Definition {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &self.fields[i])
    }

    /// Go's name of the type as its JSON decoder prints it: `v1.PodSpec`.
    pub fn go_name(&self) -> String {
        format!("{}.{}", self.package.rsplit('.').next().unwrap_or_default(), self.name)
    }

    pub fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.name)
    }
}

pub(crate) fn parse(text: Str) -> Vec<Definition> {
    let mut parser = Parser { ids: HashMap::new(), package: "" };
    for (i, (package, name)) in headers(text).enumerate() {
        parser.ids.insert((package, name), DefId::new(i));
    }
    let mut definitions: Vec<Definition> = Vec::with_capacity(parser.ids.len());
    for line in text.lines() {
        if let Some(field) = line.strip_prefix(' ') {
            let mut field = parser.field(field);
            if let Some(last) = definitions.last_mut() {
                field.always = crate::unset::is_always_there(last, &field);
                last.fields.push(field);
            }
        } else if let Some(package) = line.strip_prefix("package ") {
            parser.package = package;
        } else if let Some(def) = line.strip_prefix("def ") {
            definitions.push(parser.definition(def));
        }
    }
    for definition in &mut definitions {
        definition.fields.shrink_to_fit();
    }
    definitions
}

/// Package and name of every definition, in order.
fn headers(text: Str) -> impl Iterator<Item = (Str, Str)> {
    let mut package = "";
    text.lines().filter_map(move |line| {
        package = line.strip_prefix("package ").unwrap_or(package);
        Some((package, line.strip_prefix("def ")?.split(' ').next()?))
    })
}

struct Parser {
    ids: HashMap<(Str, Str), DefId>,
    package: Str,
}

impl Parser {
    fn definition(&self, line: Str) -> Definition {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let mut definition = Definition { package: self.package, name, gvk: None, atomic: false, fields: Vec::new() };
        for word in words {
            match word.strip_prefix("gvk=").map(|gvk| gvk.split('/').collect::<Vec<_>>()).as_deref() {
                Some(&[group, version, kind]) => definition.gvk = Some((group, version, kind)),
                _ => definition.atomic |= word == "atomic",
            }
        }
        definition
    }

    fn field(&self, line: Str) -> Field {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (name, ty, numbers) = (next(), self.ty(next()), next());
        let mut proto = [0; 3];
        for (slot, number) in proto.iter_mut().zip(numbers.split('.')) {
            *slot = number.parse().unwrap_or(0);
        }
        let mut field = Field {
            name,
            ty,
            proto,
            required: false,
            list_type: ListType::Atomic,
            atomic: false,
            patch_merge_key: None,
            retain_keys: false,
            default: None,
            always: false,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("required", _) => field.required = true,
                ("atomic", _) => field.atomic = true,
                ("set", _) => field.list_type = ListType::Set,
                ("retain-keys", _) => field.retain_keys = true,
                ("map", keys) => field.list_type = ListType::Map(Vec::leak(keys.split(',').collect())),
                ("default", value) => field.default = Some(value),
                ("merge", key) => field.patch_merge_key = Some(key),
                _ => {}
            }
        }
        field
    }

    fn ty(&self, code: Str) -> Type {
        match code {
            "s" => Type::String,
            "y" => Type::Bytes,
            "b" => Type::Bool,
            "i" => Type::Int32,
            "l" => Type::Int64,
            "f" => Type::Double,
            "t" => Type::Time,
            "u" => Type::MicroTime,
            "q" => Type::Quantity,
            "x" => Type::IntOrString,
            "R" => Type::RawExtension,
            "F" => Type::FieldsV1,
            "J" => Type::Json,
            "e" => Type::WrappedStrings,
            _ => self.compound(code),
        }
    }

    fn compound(&self, code: Str) -> Type {
        if let Some(item) = code.strip_prefix('[') {
            return Type::List(Box::leak(Box::new(self.ty(item))));
        }
        if let Some(value) = code.strip_prefix('{') {
            return Type::Map(Box::leak(Box::new(self.ty(value))));
        }
        let alternatives =
            [("|[", Alternative::List), ("|b", Alternative::Bool), ("|s", Alternative::Strings)].into_iter();
        let mut either = alternatives.filter_map(|(prefix, other)| Some((code.strip_prefix(prefix)?, other)));
        match either.next() {
            Some((object, other)) => self.definition_of(object).map_or(Type::Any, |id| Type::Or(id, other)),
            None => self.definition_of(code).map_or(Type::Any, Type::Object),
        }
    }

    fn definition_of(&self, code: Str) -> Option<DefId> {
        let key = match code.strip_prefix('.') {
            Some(name) => (self.package, name),
            None => code.rsplit_once('.')?,
        };
        self.ids.get(&key).copied()
    }
}
