//! The table of keys as a JSON Schema for editors.

use super::keys::{Key, Kind, TESTBED, Table};
use serde_json::{Map, Value, json};

/// A JSON Schema (draft 7) of `testbed.toml`, as text. It tells types and key names; `check` tells everything.
pub fn schema() -> String {
    let mut definitions = Map::new();
    define(&TESTBED, &mut definitions);
    let root = definitions.remove(TESTBED.name).unwrap_or_default();
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "testbed.toml",
        "definitions": definitions,
    });
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
    }
    format!("{schema:#}\n")
}

fn define(table: &'static Table, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(table.name) {
        return;
    }
    definitions.insert(table.name.to_owned(), Value::Null);
    let keys: Map<String, Value> =
        table.all_keys().map(|key| (key.name.to_owned(), describe(key, definitions))).collect();
    let definition = json!({
        "type": "object",
        "description": table.doc,
        "additionalProperties": false,
        "properties": keys,
    });
    definitions.insert(table.name.to_owned(), definition);
}

fn describe(key: &'static Key, definitions: &mut Map<String, Value>) -> Value {
    let doc = match key.default {
        "" => key.doc.to_owned(),
        default => format!("{} Default: {default}.", key.doc),
    };
    match kind(&key.kind, definitions) {
        Value::Object(mut schema) if !schema.contains_key("$ref") => {
            schema.insert("description".to_owned(), doc.into());
            Value::Object(schema)
        }
        // Beside a `$ref`, draft 7 ignores everything else.
        reference => json!({ "description": doc, "allOf": [reference] }),
    }
}

fn kind(kind_of: &'static Kind, definitions: &mut Map<String, Value>) -> Value {
    match kind_of {
        Kind::Text(form) => {
            let mut schema = json!({ "type": "string" });
            if let (Value::Object(schema), Some(pattern)) = (&mut schema, form.pattern()) {
                schema.insert("pattern".to_owned(), pattern.into());
            }
            if let (Value::Object(schema), Some(example)) = (&mut schema, form.example()) {
                schema.insert("examples".to_owned(), json!([example]));
            }
            schema
        }
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min: i64::MIN, .. } => json!({ "type": "integer" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number => json!({ "type": "number" }),
        Kind::List(items) => json!({ "type": "array", "items": kind(items, definitions) }),
        Kind::Map { value, .. } => {
            json!({ "type": "object", "additionalProperties": kind(value, definitions) })
        }
        Kind::Table(table) => {
            define(table, definitions);
            json!({ "$ref": format!("#/definitions/{}", table.name) })
        }
        Kind::Any(kinds) => {
            let all: Vec<Value> = kinds.iter().map(|each| kind(each, definitions)).collect();
            json!({ "anyOf": all })
        }
    }
}
