//! Fields of a text message as values of the types that the schema gives them.

use crate::registry::triton::text::{Field, Message, Value, Wrong};

impl Field {
    /// A string.
    pub(super) fn text(&self) -> Result<String, Wrong> {
        match &self.value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(self.expected("a string in quotes")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn whole(&self, min: i64, max: i64) -> Result<i64, Wrong> {
        let found = match self.value {
            Value::Integer { negative, magnitude } if negative => {
                0_i64.checked_sub_unsigned(magnitude)
            }
            Value::Integer { magnitude, .. } => i64::try_from(magnitude).ok(),
            _ => None,
        };
        let fits = |number: &i64| (min..=max).contains(number);
        found
            .filter(fits)
            .ok_or_else(|| self.expected(&format!("a whole number from {min} to {max}")))
    }

    /// A whole number of 32 bits, from 0.
    pub(super) fn count(&self) -> Result<usize, Wrong> {
        let number = self.whole(0, i64::from(i32::MAX))?;
        usize::try_from(number).map_err(|_| self.expected("a count"))
    }

    /// `true` or `false`, in the forms that the language has.
    pub(super) fn boolean(&self) -> Result<bool, Wrong> {
        match &self.value {
            Value::Word(word) if matches!(word.as_str(), "true" | "True" | "t") => Ok(true),
            Value::Word(word) if matches!(word.as_str(), "false" | "False" | "f") => Ok(false),
            Value::Integer { negative: false, magnitude: 0 } => Ok(false),
            Value::Integer { negative: false, magnitude: 1 } => Ok(true),
            _ => Err(self.expected("true or false")),
        }
    }

    /// The name of a constant.
    pub(super) fn word(&self) -> Result<&str, Wrong> {
        match &self.value {
            Value::Word(word) => Ok(word),
            _ => Err(self.expected("a name without quotes")),
        }
    }

    /// Fields in braces.
    pub(super) fn message(&self) -> Result<&Message, Wrong> {
        match &self.value {
            Value::Message(message) => Ok(message),
            _ => Err(self.expected("fields in braces")),
        }
    }

    /// The key and the value's field of an entry of a map.
    pub(super) fn entry(&self) -> Result<(String, Option<&Self>), Wrong> {
        let (mut key, mut value) = (None, None);
        for field in &self.message()?.fields {
            match field.name.as_str() {
                "key" => field.once(&mut key, field.text()?)?,
                "value" => field.once(&mut value, field)?,
                _ => return Err(field.unknown(&["key", "value"])),
            }
        }
        Ok((key.unwrap_or_default(), value))
    }

    /// Fills a field that may be there once.
    pub(super) fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), Wrong> {
        if slot.is_some() || self.listed {
            let what = format!("{:?} is no list: expected it once", self.name);
            return Err(Wrong::new(self.at, what));
        }
        *slot = Some(value);
        Ok(())
    }

    pub(super) fn expected(&self, what: &str) -> Wrong {
        let found = match &self.value {
            Value::Text(text) => {
                format!("the string {:?}", text.chars().take(64).collect::<String>())
            }
            Value::Integer { negative, magnitude } => {
                format!("{}{magnitude}", if *negative { "-" } else { "" })
            }
            Value::Float(float) => float.to_string(),
            Value::Word(word) => word.chars().take(64).collect(),
            Value::Message(_) => "fields in braces".to_owned(),
        };
        Wrong::new(self.at, format!("{}: expected {what}, got {found}", self.name))
    }

    pub(super) fn unknown(&self, known: &[&str]) -> Wrong {
        let name: String = self.name.chars().take(64).collect();
        Wrong::new(self.at, format!("unknown field {name:?}; known here: {}", known.join(", ")))
    }
}
