//! The configuration as people write it: by file, environment and flag, right and wrong.

use super::*;

fn load(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, String> {
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    let read = overrides(env, &sets).and_then(|overrides| overrides.read::<Config>("t.yml", yaml));
    let checked = read.and_then(|config| config.validate().map(|()| config));
    checked.map_err(|error| error.to_string())
}

fn fault(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> String {
    load(yaml, env, sets).expect_err("this should be refused")
}

#[test]
fn nothing_said_means_the_defaults() {
    for yaml in ["", "# nothing\n\n", "log:\n", "log: {}\nlimits:\n"] {
        assert_eq!(load(yaml, &[], &[]).as_ref(), Ok(&Config::default()), "{yaml:?}");
    }
}

#[test]
fn the_reference_file_says_exactly_the_defaults() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/viaduct.yml"));
    let config = Config::load(Some(file), [], &[]).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let yaml = "log: { level: warn }\ndemo: false\nlimits:\n  shutdown_ms: 1\n";
    let env = [("VIADUCT_LIMITS__SHUTDOWN_MS", "2"), ("VIADUCT_LOG__LEVEL", "debug"), ("PATH", "/bin")];
    let config = load(yaml, &env, &["limits.shutdown_ms=3"]).unwrap();
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.limits.shutdown_ms, 3);
    assert!(!config.demo);
}

#[test]
fn an_override_may_name_what_the_file_leaves_out() {
    let config = load("demo: false", &[("VIADUCT_LOG__LEVEL", "error")], &[]).unwrap();
    assert_eq!(config.log.level, "error");
    let config = load("log:\n", &[], &["log.level=error"]).unwrap();
    assert_eq!(config.log.level, "error");
    let config = load("", &[("VIADUCT_DEMO", "false")], &[]).unwrap();
    assert!(!config.demo);
}

#[test]
fn strings_keep_every_character() {
    let secret = |config: &Config| config.auth.keys[0].key.clone().unwrap().reveal().to_string();
    for text in ["0123", "007", "1e3", "0x1F", "no", "1_000", "12:30:00", "3.10"] {
        let config = load(&format!("auth: {{ keys: [{{ name: 0042, key: {text} }}] }}"), &[], &[]).unwrap();
        assert_eq!(secret(&config), text);
        assert_eq!(config.auth.keys[0].name, "0042");
        let rooms = format!("auth: {{ rooms: {{ 007: {{ watch: {text} }} }} }}");
        let config = load(&rooms, &[("VIADUCT_STATE_DIR", text)], &[]).unwrap();
        assert_eq!(config.auth.rooms["007"].watch.as_ref().unwrap().reveal(), text);
        assert_eq!(config.state_dir, Path::new(text));
    }
    let env = [("VIADUCT_AUTH__KEYS", "[{name: a, key: 0123}]"), ("VIADUCT_STATE_DIR", "[::]: #x")];
    let config = load("", &env, &["auth.rooms.board.watch=0099"]).unwrap();
    assert_eq!(secret(&config), "0123");
    assert_eq!(config.state_dir, Path::new("[::]: #x"));
    assert_eq!(config.auth.rooms["board"].watch.as_ref().unwrap().reveal(), "0099");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_guess() {
    assert_eq!(
        fault("demo: true\nlog:\n  levl: info\n", &[], &[]),
        "t.yml:3:3: unknown key `levl`; did you mean `level`?"
    );
    assert!(
        fault("statedir: x\n", &[], &[])
            .starts_with("t.yml:1:1: unknown key `statedir`; did you mean `state_dir`?")
    );
    assert!(
        fault("auth:\n  keys:\n    - name: a\n      kee: b\n", &[], &[])
            .starts_with("t.yml:4:7: unknown key `kee`")
    );
}

#[test]
fn an_override_that_names_nothing_is_refused_by_its_own_name() {
    assert_eq!(
        fault("", &[("VIADUCT_LOG__LEVL", "x")], &[]),
        "VIADUCT_LOG__LEVL: unknown key `levl`; did you mean `level`?"
    );
    assert!(fault("demo: true", &[], &["dem=false"]).starts_with("--set dem: unknown key `dem`"));
    assert_eq!(fault("", &[], &["demo.x=1"]), "--set demo.x: there are no keys below this one");
    assert_eq!(fault("", &[], &["demo"]), "--set demo: write it as --set section.key=value");
    assert!(
        fault("", &[("VIADUCT_LOG", "{level: info}"), ("VIADUCT_LOG__LEVEL", "x")], &[])
            .contains("choose one")
    );
}

#[test]
fn a_wrong_value_is_refused_where_it_stands() {
    assert!(fault("demo: maybe\n", &[], &[]).starts_with("t.yml:1:7: "));
    assert!(fault("demo: true\n", &[("VIADUCT_DEMO", "maybe")], &[]).starts_with("VIADUCT_DEMO: "));
    assert!(
        fault("demo: true\ndemo: false\n", &[], &[])
            .starts_with("t.yml:2:1: the key `demo` stands here twice")
    );
    assert!(fault("limits: { shutdown_ms: -1 }\n", &[], &[]).starts_with("t.yml:1:24: "));
    assert!(fault("log: [\n", &[], &[]).starts_with("t.yml:"));
    assert!(fault("log: { level: \"a=b=c\" }\n", &[], &[]).starts_with("log.level: "));
}

#[test]
fn no_error_quotes_a_secret() {
    let yaml = "auth:\n  keys:\n    - { name: a, key: hunter2, kee: hunter2 }\n";
    assert!(!fault(yaml, &[], &[]).contains("hunter2"));
    assert!(!fault("auth: { keys: hunter2 }\n", &[], &[]).contains("hunter2"));
    assert!(!fault("", &[("VIADUCT_AUTH__KEYS", "hunter2")], &[]).contains("hunter2"));
    assert!(
        !fault("", &[("VIADUCT_AUTH__KEYS", "[{name: a, key: hunter2, x: y}]")], &[]).contains("hunter2")
    );
}

#[test]
fn variables_that_a_cluster_sets_by_itself_are_passed_over() {
    let env = [("VIADUCT_PORT", "tcp://10.0.0.1:8889"), ("VIADUCT_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(load("", &env, &[]), Ok(Config::default()));
}

#[test]
fn the_reference_file_names_every_key() {
    let text = include_str!("../../config/viaduct.yml");
    let file: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let mut missing = keys::of::<Config>();
    missing.retain(|path| file.pointer(path).is_none());
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn what_cannot_be_announced_is_refused() {
    let server = |url: &str| format!("whip_whep: {{ ice_servers: [{{ url: {url:?} }}] }}");
    assert!(load(&server("stun:stun.example.net:3478"), &[], &[]).is_ok());
    assert!(fault(&server("http://example.net"), &[], &[]).starts_with("whip_whep.ice_servers: "));
    assert!(
        fault("whip_whep: { allow_origin: \"a\\nb\" }", &[], &[]).starts_with("whip_whep.allow_origin: ")
    );
}

/// Finds every key a type has, by letting it read a document that has them all.
mod keys {
    use std::cell::RefCell;

    use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer};
    use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

    pub fn of<T: DeserializeOwned>() -> Vec<String> {
        let found = RefCell::default();
        T::deserialize(Every { path: String::new(), found: &found }).map(drop).unwrap();
        found.into_inner()
    }

    struct Every<'a> {
        path: String,
        found: &'a RefCell<Vec<String>>,
    }

    impl<'de> Deserializer<'de> for Every<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_unit()
        }
        fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_bool(false)
        }
        fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_u64(1)
        }
        fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_f64(1.0)
        }
        fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_str("x")
        }
        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_none()
        }
        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            visitor: V,
        ) -> Result<V::Value, Error> {
            visitor.visit_newtype_struct(self)
        }
        fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let nothing: [&str; 0] = [];
            serde::de::value::SeqDeserializer::new(nothing.into_iter()).deserialize_seq(visitor)
        }
        fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let nothing: [(&str, &str); 0] = [];
            MapDeserializer::new(nothing.into_iter()).deserialize_map(visitor)
        }
        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _name: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            visitor.visit_enum(variants[0].into_deserializer())
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            let paths = fields.iter().map(|field| format!("{}/{field}", self.path));
            self.found.borrow_mut().extend(paths);
            let fields = Fields { every: self, left: fields.iter(), now: "" };
            MapAccessDeserializer::new(fields).deserialize_map(visitor)
        }
        serde::forward_to_deserialize_any! { unit unit_struct tuple tuple_struct ignored_any }
        crate::config::tests::forward! {
            deserialize_u64: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_i8 deserialize_i16
                deserialize_i32 deserialize_i64;
            deserialize_f64: deserialize_f32;
            deserialize_string: deserialize_str deserialize_char deserialize_identifier deserialize_bytes
                deserialize_byte_buf;
        }
    }

    struct Fields<'a> {
        every: Every<'a>,
        left: std::slice::Iter<'static, &'static str>,
        now: &'static str,
    }

    impl<'de> MapAccess<'de> for Fields<'_> {
        type Error = Error;

        fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
            let Some(next) = self.left.next() else { return Ok(None) };
            self.now = next;
            seed.deserialize((*next).into_deserializer()).map(Some)
        }

        fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
            let path = format!("{}/{}", self.every.path, self.now);
            seed.deserialize(Every { path, found: self.every.found })
        }
    }
}

/// Methods that do what another one does.
macro_rules! forward {
    ($($to:ident: $($from:ident)*;)*) => {$($(
        fn $from<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$to(visitor)
        }
    )*)*};
}
use forward;
