//! A JSON object of any keys, whose values stay text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::protocol::json::{Reader, unescape};

/// Keys that one object may have; keeps the search for duplicates cheap.
pub(in crate::protocol) const KEYS_MAX: usize = 64;

/// Characters of a key that a message repeats.
const SHOWN_MAX: usize = 64;

/// Entries that there is room for at first: as many as most bodies have.
const KEYS_USUAL: usize = 4;

/// The entries of an object, in their order; no key comes twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// The entries of an object that is all of `body`. Arrays and objects in it
    /// are not checked: whether this is JSON is known once each of its values
    /// has been read. `None` for what is certainly none, and for what serde_json
    /// would refuse or should look at.
    pub(in crate::protocol) fn skim(body: &'a str) -> Option<Self> {
        let mut reader = Reader::whole(body);
        let mut object = Self(Vec::with_capacity(KEYS_USUAL));
        if !reader.take(b'{') {
            return None;
        }
        while let Some(key) = reader.key(object.0.is_empty()).ok()? {
            let key = unescape(key).ok()?;
            if object.0.len() == KEYS_MAX || object.get(&key).is_some() {
                return None;
            }
            object.0.push((key, reader.skim().ok()?));
        }
        reader.end().ok()?;
        Some(object)
    }

    /// Entries that came in another form: keys, none of them twice, and values as
    /// JSON text.
    pub(in crate::protocol) fn of(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(entries.map(|(key, value)| (Cow::Borrowed(key), value)).collect())
    }

    /// All entries.
    pub(in crate::protocol) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// The value of a key.
    pub(in crate::protocol) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| *value)
    }
}

/// A string that is borrowed unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut object = Object::default();
                while let Some(Text(key)) = map.next_key()? {
                    if object.get(&key).is_some() {
                        let shown: String = key.chars().take(SHOWN_MAX).collect();
                        return Err(A::Error::custom(format!("key {shown:?} is given twice")));
                    }
                    if object.0.len() == KEYS_MAX {
                        return Err(A::Error::custom(format!("more than {KEYS_MAX} keys")));
                    }
                    object.0.push((key, map.next_value::<&RawValue>()?.get()));
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::json::testing::{any_json, damaged};

    #[test]
    fn keys_are_unescaped_and_come_once() {
        let object: Object<'_> = serde_json::from_str(r#"{"\u0061":[1],"b": {}}"#).unwrap();
        let entries: Vec<_> = object.iter().collect();
        assert_eq!(entries, [("a", "[1]"), ("b", "{}")]);
        let twice = serde_json::from_str::<Object<'_>>(r#"{"\u0061":1,"a":2}"#).unwrap_err();
        assert!(twice.to_string().starts_with("key \"a\" is given twice"), "{twice}");
        let long = format!("\"{}\":1", "k".repeat(1000));
        let twice = serde_json::from_str::<Object<'_>>(&format!("{{{long},{long}}}")).unwrap_err();
        assert!(twice.to_string().len() < 150, "{twice}");
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let keys: Vec<_> = (0..=KEYS_MAX).map(|i| format!("\"{i}\":1")).collect();
        let text = format!("{{{}}}", keys.join(","));
        let error = serde_json::from_str::<Object<'_>>(&text);
        assert!(error.unwrap_err().to_string().starts_with("more than 64 keys"));
    }

    fn read(text: &str) -> Option<Object<'_>> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn what_serde_refuses_is_not_skimmed() {
        let many: Vec<_> = (0..=KEYS_MAX).map(|i| format!("\"{i}\":1")).collect();
        for text in [
            "",
            "[1]",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"\\ud800\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            &format!("{{{}}}", many.join(",")),
        ] {
            assert_eq!((Object::skim(text), read(text)), (None, None), "{text}");
        }
    }

    proptest! {
        #[test]
        fn skimmed_is_as_read(json in any_json()) {
            let text = format!("{{\"a\": {json}, \"\\u00e9\":{json}}}");
            prop_assert_eq!(Object::skim(&text), read(&text));
        }

        /// What serde reads is skimmed the same way; what it does not, only if a
        /// value shows it.
        #[test]
        fn damaged_json_is_skimmed_no_other_way(inner in damaged(), text in damaged()) {
            let inside = format!("{{\"a\":{inner},\"b\":1}}");
            for text in [&inside, &text] {
                match (Object::skim(text), read(text)) {
                    (Some(object), None) => {
                        let is_json = |text| serde_json::from_str::<&RawValue>(text).is_ok();
                        prop_assert!(!object.iter().all(|(_, value)| is_json(value)), "{}", text);
                    }
                    (skimmed, read) => prop_assert_eq!(skimmed, read),
                }
            }
        }
    }
}
