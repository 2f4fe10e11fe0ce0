//! A JSON object of any keys, whose values stay raw text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Keys that one object may have; keeps the search for duplicates cheap.
const KEYS_MAX: usize = 64;

/// Characters of a key that a message repeats.
const SHOWN_MAX: usize = 64;

/// The entries of an object, in their order; no key comes twice.
#[derive(Clone, Debug, Default)]
pub(in crate::protocol) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// All entries.
    pub(in crate::protocol) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// The value of a key.
    pub(in crate::protocol) fn get(&self, key: &str) -> Option<&'a RawValue> {
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
                    object.0.push((key, map.next_value()?));
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unescaped_and_come_once() {
        let object: Object<'_> = serde_json::from_str(r#"{"\u0061":[1],"b": {}}"#).unwrap();
        let entries: Vec<_> = object.iter().map(|(k, v)| (k, v.get())).collect();
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
}
