//! Environment and flags laid over the file while it is being read, so that an override is parsed as the
//! type it replaces: `0123` stays `0123` for a string and is refused for a number out of range, exactly
//! as in the file, and a name that stands for nothing is refused like an unknown key.
//!
//! The tree of overrides wraps the YAML deserializer: maps and structs that have overrides get their
//! keys from both, all else goes straight to YAML.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::iter;

use std::marker::PhantomData;

use serde::de::value::MapDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
};

use super::error::{ConfigError, explain, unknown_key};

/// Values by path, each with the name of what set it.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    root: BTreeMap<String, Node>,
}

#[derive(Debug)]
enum Node {
    Leaf { value: String, origin: String },
    Branch(BTreeMap<String, Node>),
}

impl Overrides {
    /// Sets `path`; a later value replaces an earlier one. A section and a key of the same section
    /// cannot both be set.
    pub(super) fn set(&mut self, path: &[String], value: &str, origin: &str) -> Result<(), ConfigError> {
        let clash = || ConfigError::Override {
            origin: origin.into(),
            fault: "this sets a section as a whole and one of its keys; choose one".into(),
        };
        let Some((last, sections)) = path.split_last() else {
            return Ok(());
        };
        let mut map = &mut self.root;
        for section in sections {
            let node = map.entry(section.clone()).or_insert_with(|| Node::Branch(BTreeMap::new()));
            match node {
                Node::Branch(inner) => map = inner,
                Node::Leaf { .. } => return Err(clash()),
            }
        }
        if let Some(Node::Branch(_)) = map.get(last) {
            return Err(clash());
        }
        map.insert(last.clone(), Node::Leaf { value: value.into(), origin: origin.into() });
        Ok(())
    }

    /// Lays `stronger` over this: where both say something, `stronger` is heard.
    pub(super) fn lay_over(&mut self, stronger: Overrides) {
        merge(&mut self.root, stronger.root);
    }

    /// Reads `text` with the overrides on top; `file` names it in errors.
    pub(super) fn read<T: DeserializeOwned>(&self, file: &str, text: &str) -> Result<T, ConfigError> {
        let faults = Faults::default();
        let result = if is_blank(text) {
            T::deserialize(empty(&self.root, &faults))
        } else {
            with_yaml(text, |inner| T::deserialize(Overlay { inner, over: &self.root, faults: &faults }))
        };
        result.map_err(|error| match faults.0.take() {
            Some(fault) => fault,
            None => ConfigError::file(file, &error),
        })
    }
}

fn merge(below: &mut BTreeMap<String, Node>, above: BTreeMap<String, Node>) {
    for (key, node) in above {
        match (below.get_mut(&key), node) {
            (Some(Node::Branch(below)), Node::Branch(above)) => merge(below, above),
            (_, node) => {
                below.insert(key, node);
            }
        }
    }
}

/// YAML without snippets of the source in its errors: a snippet may hold a secret.
fn with_yaml<'de, R>(
    text: &'de str,
    read: impl for<'e> FnOnce(serde_saphyr::Deserializer<'de, 'e>) -> Result<R, serde_saphyr::Error>,
) -> Result<R, serde_saphyr::Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, read)
}

/// A document of comments only holds no map to merge into.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
}

/// The first error that an override caused; YAML's own position would mislead there.
#[derive(Default)]
struct Faults(RefCell<Option<ConfigError>>);

impl Faults {
    fn keep<E: Error>(&self, origin: &str, fault: String) -> E {
        let error = E::custom(&fault);
        self.0.borrow_mut().get_or_insert(ConfigError::Override { origin: origin.into(), fault });
        error
    }
}

impl Node {
    /// What set it, or the first thing below it.
    fn origin(&self) -> &str {
        match self {
            Node::Leaf { origin, .. } => origin,
            Node::Branch(map) => first_origin(map),
        }
    }
}

fn first_origin(map: &BTreeMap<String, Node>) -> &str {
    map.values().next().map_or("", Node::origin)
}

/// A map or struct of YAML with overrides laid over it.
struct Overlay<'o, D> {
    inner: D,
    over: &'o BTreeMap<String, Node>,
    faults: &'o Faults,
}

/// The same where YAML has nothing.
fn empty<'o, 'de, E: Error>(
    over: &'o BTreeMap<String, Node>,
    faults: &'o Faults,
) -> Overlay<'o, MapDeserializer<'de, iter::Empty<(String, String)>, E>> {
    Overlay { inner: MapDeserializer::new(iter::empty()), over, faults }
}

macro_rules! not_a_section {
    ($($name:ident($($arg:ident: $kind:ty),*)),* $(,)?) => {$(
        fn $name<V: Visitor<'de>>(self, $($arg: $kind,)* _visitor: V) -> Result<V::Value, D::Error> {
            $(let _ = $arg;)*
            Err(self.faults.keep(first_origin(self.over), "there are no keys below this one".into()))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Overlay<'de, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Merge { visitor, over: self.over, faults: self.faults })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Merge { visitor, over: self.over, faults: self.faults })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        if let Some((key, node)) = self.over.iter().find(|(key, _)| !fields.contains(&key.as_str())) {
            return Err(self.faults.keep(node.origin(), unknown_key(key, fields)));
        }
        let merge = Merge { visitor, over: self.over, faults: self.faults };
        self.inner.deserialize_struct(name, fields, merge)
    }

    not_a_section! {
        deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(), deserialize_i64(),
        deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(), deserialize_f32(),
        deserialize_f64(), deserialize_char(), deserialize_str(), deserialize_string(),
        deserialize_bytes(), deserialize_byte_buf(), deserialize_unit(),
        deserialize_unit_struct(name: &'static str), deserialize_seq(), deserialize_tuple(len: usize),
        deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
        deserialize_identifier(), deserialize_ignored_any(),
    }
}

/// Passes a map on with the overrides merged in; nothing at all counts as an empty map.
struct Merge<'o, V> {
    visitor: V,
    over: &'o BTreeMap<String, Node>,
    faults: &'o Faults,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Merge<'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let left = self.over.iter().collect();
        self.visitor.visit_map(Merged { inner: Some(inner), left, now: None, faults: self.faults })
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visit_map(MapDeserializer::<_, E>::new(iter::empty::<(String, String)>()))
    }
}

/// First YAML's keys, then those that only an override has.
struct Merged<'o, A> {
    inner: Option<A>,
    left: Vec<(&'o String, &'o Node)>,
    now: Option<&'o Node>,
    faults: &'o Faults,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Merged<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if let Some(inner) = &mut self.inner {
            if let Some(key) = inner.next_key::<String>()? {
                let at = self.left.iter().position(|(name, _)| **name == key);
                self.now = at.map(|at| self.left.swap_remove(at).1);
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.inner = None;
        }
        let Some((key, node)) = self.left.pop() else {
            return Ok(None);
        };
        self.now = Some(node);
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match (self.now.take(), &mut self.inner) {
            (None, Some(inner)) => inner.next_value_seed(seed),
            (None, None) => Err(Error::custom("a value was asked for before its key")),
            (Some(Node::Leaf { value, origin }), inner) => {
                if let Some(inner) = inner {
                    inner.next_value::<IgnoredAny>()?;
                }
                seed.deserialize(Leaf { value, origin, faults: self.faults, error: PhantomData })
            }
            (Some(Node::Branch(over)), Some(inner)) => {
                inner.next_value_seed(Below { seed, over, faults: self.faults })
            }
            (Some(Node::Branch(over)), None) => seed.deserialize(empty(over, self.faults)),
        }
    }
}

struct Below<'o, S> {
    seed: S,
    over: &'o BTreeMap<String, Node>,
    faults: &'o Faults,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Below<'de, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Overlay { inner, over: self.over, faults: self.faults })
    }
}

/// One override's text: taken as it is where a string is wanted, read as YAML elsewhere.
struct Leaf<'o, E> {
    value: &'o str,
    origin: &'o str,
    faults: &'o Faults,
    error: PhantomData<E>,
}

impl<E: Error> Leaf<'_, E> {
    fn keep<T>(&self, result: Result<T, serde_saphyr::Error>) -> Result<T, E> {
        result.map_err(|error| self.faults.keep(self.origin, explain(&error)))
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
            self.keep(visitor.visit_str(self.value))
        }
    )*};
}

macro_rules! as_yaml {
    ($($name:ident($($arg:ident: $kind:ty),*)),* $(,)?) => {$(
        fn $name<V: Visitor<'de>>(self, $($arg: $kind,)* visitor: V) -> Result<V::Value, E> {
            self.keep(with_yaml(self.value, |yaml| yaml.$name($($arg,)* visitor)))
        }
    )*};
}

impl<'de, E: Error> Deserializer<'de> for Leaf<'de, E> {
    type Error = E;

    as_text! { deserialize_char, deserialize_str, deserialize_string, deserialize_identifier }

    as_yaml! {
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(),
        deserialize_i64(), deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(),
        deserialize_f32(), deserialize_f64(), deserialize_bytes(), deserialize_byte_buf(),
        deserialize_unit(), deserialize_unit_struct(name: &'static str), deserialize_seq(),
        deserialize_tuple(len: usize), deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_map(), deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
        deserialize_ignored_any(),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        if matches!(self.value, "" | "~" | "null") { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }
}
