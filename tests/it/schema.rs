//! Values against the schemas of an OpenAPI document (JSON Schema 2020-12), as
//! far as ours use it: a keyword that is not known here is a panic.

use serde_json::Value;

/// Why a value does not fit a schema of the document.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else { return Ok(()) };
    let fits = |schema: &Value| check(document, schema, value).is_ok();
    for (keyword, said) in keywords {
        let list = || said.as_array().unwrap().iter();
        let number = || said.as_f64().unwrap();
        let good = match keyword.as_str() {
            // Keys are strings, whatever is said of them.
            "description" | "format" | "pattern" | "properties" | "propertyNames" => true,
            "$ref" => {
                let target = document.pointer(&said.as_str().unwrap()[1..]);
                check(document, target.unwrap_or_else(|| panic!("no {said}")), value)?;
                true
            }
            "allOf" => {
                for part in list() {
                    check(document, part, value)?;
                }
                true
            }
            "oneOf" => list().filter(|option| fits(option)).count() == 1,
            "anyOf" => list().any(fits),
            "type" => said
                .as_array()
                .map_or_else(|| is(value, said), |all| all.iter().any(|t| is(value, t))),
            "enum" => list().any(|choice| choice == value),
            "minimum" => value.as_f64().is_none_or(|value| value >= number()),
            "maximum" => value.as_f64().is_none_or(|value| value <= number()),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as f64 >= number())
            }
            "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number()),
            "required" => value.as_object().is_none_or(|fields| {
                list().all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(document, said, item)?;
                }
                true
            }
            "additionalProperties" => {
                additional(document, keywords, said, value)?;
                true
            }
            unknown => panic!("keyword {unknown:?} is not known"),
        };
        if !good {
            return Err(format!("{value} does not fit {keyword:?}: {said}"));
        }
    }
    let properties = keywords.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(document, property, value).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(())
}

fn additional(
    document: &Value,
    keywords: &serde_json::Map<String, Value>,
    said: &Value,
    value: &Value,
) -> Result<(), String> {
    let known = keywords.get("properties").and_then(Value::as_object);
    for (name, value) in value.as_object().into_iter().flatten() {
        if known.is_some_and(|known| known.contains_key(name)) {
            continue;
        }
        if *said == Value::Bool(false) {
            return Err(format!("{name:?} is not documented"));
        }
        check(document, said, value).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn is(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}
