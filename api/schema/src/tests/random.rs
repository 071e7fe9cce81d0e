//! Random objects and random bytes: what holds for all of them.

use serde_json::{Map, Value, json};
use xebec_machinery::patch::{apply, merge, strategic};

use crate::{Alternative, DefId, ListType, Type, decode, default, protobuf, schema};

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap_or(0)]
    }

    /// A canonical object of a definition, without zeros that protobuf would drop.
    fn object(&mut self, def: DefId, depth: u32) -> Value {
        let mut map = Map::new();
        for field in &schema().definition(def).fields {
            let key = |keys: &[&str]| keys.contains(&field.name);
            let skip = field.proto == [0; 3] || depth > 5 || key(&["apiVersion", "kind", "managedFields"]);
            if !skip && (self.chance(25) || key(&["name"])) {
                // A list may be atomic to apply and merge by a key in a strategic patch: then items need the key as well.
                let list_type = match (field.list_type, &field.patch_merge_key) {
                    (ListType::Atomic, Some(key)) if !key.is_empty() => ListType::Map(field.patch_merge_key.as_slice()),
                    (list_type, _) => list_type,
                };
                map.insert(field.name.to_owned(), self.value(field.ty, list_type, depth + 1));
            }
        }
        map.into()
    }

    fn value(&mut self, ty: Type, list_type: ListType, depth: u32) -> Value {
        match ty {
            Type::String => format!("s{}", self.below(1000)).into(),
            Type::Bytes => "AAEC/w==".into(),
            Type::Bool => true.into(),
            Type::Int32 => (1 + self.below(i32::MAX as u64)).into(),
            Type::Int64 => (1 + self.below(i64::MAX as u64)).into(),
            Type::Double => 1.5.into(),
            Type::Time => "2026-01-02T03:04:05Z".into(),
            Type::MicroTime => "2026-01-02T03:04:05.000006Z".into(),
            Type::Quantity => (*self.pick(&["1", "500m", "1Gi", "0", "-3k"])).into(),
            Type::IntOrString => self.pick(&[json!(80), json!("http")]).clone(),
            Type::RawExtension | Type::FieldsV1 | Type::Json | Type::Any => json!({"a": [1, {"b": "c"}]}),
            Type::WrappedStrings => json!(["x", "y"]),
            Type::Or(def, other) => match (other, self.chance(50)) {
                (_, true) => self.object(def, depth),
                (Alternative::Bool, _) => self.chance(50).into(),
                (Alternative::List, _) => self.list(Type::Object(def), ListType::Atomic, depth),
                (Alternative::Strings, _) => json!(["x", "y"]),
            },
            Type::Object(def) => self.object(def, depth),
            Type::List(item) => self.list(*item, list_type, depth),
            Type::Map(item) => {
                let count = 1 + self.below(2);
                let entry = |i| (format!("k{i}"), self.value(*item, ListType::Atomic, depth));
                (0..count).map(entry).collect::<Map<_, _>>().into()
            }
        }
    }

    /// A list whose items have distinct identities.
    fn list(&mut self, item: Type, list_type: ListType, depth: u32) -> Value {
        let mut items = Vec::new();
        for i in 0..=self.below(2) {
            let mut value = self.value(item, ListType::Atomic, depth);
            if let (ListType::Map(keys), Type::Object(def)) = (list_type, item) {
                for key in keys {
                    let ty = schema().definition(def).field(key).map_or(Type::String, |f| f.ty);
                    value[*key] = match ty {
                        Type::Int32 | Type::Int64 => (i + 1).into(),
                        Type::IntOrString => json!(80 + i),
                        Type::Object(_) => json!({"name": format!("n{i}")}),
                        _ => format!("n{i}").into(),
                    };
                }
            } else if item == Type::String {
                value = format!("s{i}").into();
            }
            items.push(value);
        }
        items.into()
    }

    /// Any JSON at all, with a liking for names the schema and the patches know.
    fn json(&mut self, depth: u32) -> Value {
        const NAMES: [&str; 12] = [
            "metadata",
            "spec",
            "containers",
            "name",
            "ports",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "$deleteFromPrimitiveList/finalizers",
            "finalizers",
            "managedFields",
            "fieldsV1",
        ];
        match self.below(if depth > 6 { 4 } else { 8 }) {
            0 => Value::Null,
            1 => self.chance(50).into(),
            2 => self.next().into(),
            3 => (*self.pick(&["", "delete", "replace", "x", "1Gi", "Apply"])).into(),
            4 | 5 => (0..self.below(4)).map(|_| self.json(depth + 1)).collect(),
            _ => (0..self.below(5))
                .map(|_| ((*self.pick(&NAMES)).to_owned(), self.json(depth + 1)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

fn random_kind(random: &mut Random) -> (DefId, Value) {
    let resource = *random.pick(schema().resources());
    let mut object = random.object(resource.def, 0);
    xebec_machinery::object::set_type(&mut object, &resource.api_version(), resource.kind);
    (resource.def, object)
}

const MANAGER: apply::Manager<'static> =
    apply::Manager { name: "m", api_version: "v1", subresource: "", now: "2026-01-02T03:04:05Z", ignored: &[] };

#[test]
fn checked_objects_are_fixed_points_and_survive_protobuf() {
    let mut random = Random(1);
    for _ in 0..400 {
        let (def, object) = random_kind(&mut random);
        let mut checked = object.clone();
        let unknown = decode::check(def, &mut checked).unwrap_or_else(|e| panic!("{object}: {e}"));
        assert_eq!(unknown, Vec::<String>::new());
        assert_eq!(checked, object);
        let bytes = protobuf::encode(&object).unwrap_or_else(|e| panic!("{object}: {e}"));
        assert_eq!(protobuf::decode(&bytes).as_ref(), Ok(&object));
        default::apply(def, &mut checked);
    }
}

#[test]
fn patches_with_the_object_itself_change_nothing() {
    let mut random = Random(2);
    for _ in 0..400 {
        let (def, object) = random_kind(&mut random);
        let schema = crate::View::of(def);
        let mut merged = object.clone();
        merge::apply(&mut merged, object.clone());
        assert_eq!(merged, object);
        strategic::apply(&mut merged, object.clone(), schema).unwrap_or_else(|e| panic!("{object}: {e}"));
        assert_eq!(merged, object);
        let created = apply::apply(None, &object, schema, &MANAGER, false).unwrap_or_else(|e| panic!("{object}: {e}"));
        let again =
            apply::apply(Some(&created), &object, schema, &MANAGER, false).unwrap_or_else(|e| panic!("{object}: {e}"));
        assert_eq!(created, again);
        let other = apply::Manager { name: "other", ..MANAGER };
        let shared =
            apply::apply(Some(&created), &object, schema, &other, false).unwrap_or_else(|e| panic!("{object}: {e}"));
        let strip = |mut v: Value| {
            v["metadata"].as_object_mut().map(|m| m.remove("managedFields"));
            v
        };
        assert_eq!(strip(shared), strip(created));
    }
}

#[test]
fn forced_applies_of_one_object_on_another_keep_the_second() {
    let mut random = Random(3);
    for _ in 0..300 {
        let resource = *random.pick(schema().resources());
        let (live, config) = (random.object(resource.def, 0), random.object(resource.def, 0));
        let view = resource.patch_schema();
        let mut tracked = live.clone();
        apply::update_managed_fields(None, &mut tracked, view, &MANAGER);
        let other = apply::Manager { name: "other", ..MANAGER };
        let merged = apply::apply(Some(&tracked), &config, view, &other, true).unwrap_or_else(|e| panic!("{e}"));
        // Applying it again finds nothing to do, so all of it is there.
        let again = apply::apply(Some(&merged), &config, view, &other, false).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(merged, again);
        // Whoever applies nothing any more leaves what the other had alone.
        _ = apply::apply(Some(&merged), &json!({}), view, &other, true).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn nothing_panics_on_any_json() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let resource = *random.pick(schema().resources());
        let (mut object, patch) = (random.json(0), random.json(0));
        let view = resource.patch_schema();
        _ = strategic::apply(&mut object.clone(), patch.clone(), view);
        _ = apply::apply(Some(&object), &patch, view, &MANAGER, true);
        let mut new = object.clone();
        apply::update_managed_fields(Some(&patch), &mut new, view, &MANAGER);
        _ = decode::check(resource.def, &mut object);
        xebec_machinery::object::set_type(&mut object, &resource.api_version(), resource.kind);
        _ = protobuf::encode(&object);
    }
}

#[test]
fn nothing_panics_on_any_bytes() {
    let mut random = Random(5);
    for _ in 0..4_000 {
        let (_, object) = random_kind(&mut random);
        let mut bytes = if random.chance(50) {
            protobuf::encode(&object).unwrap_or_default()
        } else {
            object.to_string().into_bytes()
        };
        for _ in 0..=random.below(8) {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
            match random.below(3) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => bytes.truncate(at.max(8)),
                _ => bytes.insert(at, random.next().to_le_bytes()[0]),
            }
        }
        _ = protobuf::decode(&bytes);
        _ = xebec_machinery::json::parse_strict(&bytes);
        _ = xebec_machinery::yaml::parse(&bytes);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        _ = text.parse::<xebec_machinery::Quantity>();
        _ = xebec_machinery::selector::LabelSelector::parse(&text);
        _ = xebec_machinery::selector::FieldSelector::parse(&text);
        _ = xebec_machinery::time::parse(&text);
    }
}
