//! Answers of a JSON schema: by the real model, with every way to choose tokens.

use super::tests::{finish, greedy, model, user};
use super::*;
use crate::compute::Pool;
use pg_rag_protocol::message::FinishReason;
use serde_json::{json, Value};

fn constrained(schema: &Value, max_tokens: u32) -> GenerateParams {
    GenerateParams { json_schema: Some(schema.to_string()), ..greedy(max_tokens) }
}

fn start(question: &str, params: GenerateParams, options: GenerationOptions) -> Result<Generation> {
    let prompt = model().prompt_tokens(&user(question)).unwrap();
    Generation::with_options(model(), prompt, params, options)
}

fn answer(question: &str, params: GenerateParams) -> (Value, FinishReason) {
    let generation = start(question, params, GenerationOptions::default()).unwrap();
    let (text, reason, _) = finish(generation, &Pool::new(2).unwrap());
    (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")), reason)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["person", "city"]},
            "age": {"type": "integer", "minimum": 3, "maximum": 99},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3}
        },
        "required": ["name", "kind", "age", "tags"],
        "additionalProperties": false,
        "$defs": {"tag": {"type": "string", "pattern": "^[a-z]{2,8}$"}}
    })
}

fn check_person(value: &Value) {
    let object = value.as_object().unwrap();
    assert_eq!(object.len(), 4, "{value}");
    assert!(object["name"].as_str().unwrap().chars().count() <= 20, "{value}");
    assert!(["person", "city"].contains(&object["kind"].as_str().unwrap()), "{value}");
    assert!((3..=99).contains(&object["age"].as_i64().unwrap()), "{value}");
    let tags = object["tags"].as_array().unwrap();
    assert!((1..=3).contains(&tags.len()), "{value}");
    for tag in tags {
        let tag = tag.as_str().unwrap();
        assert!((2..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_lowercase()), "{value}");
    }
}

#[test]
fn answers_satisfy_the_schema_with_every_way_to_choose() {
    let question = "Anna is 34 years old and likes chess and tea. Describe her.";
    let (first, reason) = answer(question, constrained(&person(), 200));
    check_person(&first);
    assert_eq!(reason, FinishReason::EndOfTurn);
    for (temperature, seed) in [(0.7, 1), (1.5, 2), (5.0, 3), (50.0, 4)] {
        let params = GenerateParams { temperature, seed, top_p: 0.98, ..constrained(&person(), 300) };
        check_person(&answer(question, params).0);
    }
    let params = GenerateParams { repeat_penalty: 1.8, ..constrained(&person(), 300) };
    check_person(&answer(question, params).0);
}

#[test]
fn guesses_do_not_change_an_answer_of_a_schema() {
    let schema = json!({"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 3, "maxItems": 3});
    let question =
        "Repeat: \"vacuum removes dead tuples\", \"vacuum removes dead rows\", \"vacuum removes dead tuples\".";
    let text = |speculation| {
        let options = GenerationOptions { speculation, prefix_cache: false };
        finish(start(question, constrained(&schema, 120), options).unwrap(), &Pool::new(2).unwrap()).0
    };
    let want = text(false);
    assert_eq!(text(true), want);
    assert_eq!(serde_json::from_str::<Vec<String>>(&want).unwrap().len(), 3);
}

#[test]
fn values_of_every_type_are_possible_at_the_top() {
    type Check = fn(&Value) -> bool;
    let cases: [(Value, Check); 5] = [
        (json!({"type": "integer", "minimum": 10, "maximum": 99}), |value| value.is_i64()),
        (json!({"type": "boolean"}), |value| value.is_boolean()),
        (json!({"enum": ["yes", "no"]}), |value| value == "yes" || value == "no"),
        (json!({"anyOf": [{"type": "null"}, {"const": 7}]}), |value| value.is_null() || value == 7),
        (json!({"type": "string", "maxLength": 5}), |value| value.is_string()),
    ];
    for (schema, is_right) in cases {
        let (value, _) = answer("Is Paris the capital of France?", constrained(&schema, 40));
        assert!(is_right(&value), "{schema}: {value}");
    }
}

#[test]
fn a_budget_that_ends_before_the_document_is_an_error() {
    let pool = Pool::new(2).unwrap();
    for max_tokens in [1, 8] {
        let mut generation =
            start("Describe Anna.", constrained(&person(), max_tokens), GenerationOptions::default()).unwrap();
        let error = loop {
            match generation.step(&pool, &|| false) {
                Ok(Step::Finished(reason)) => panic!("it ended by {reason:?} with {}", generation.text()),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ModelError::JsonCut(tokens) if tokens == max_tokens as usize), "{error}");
    }
}

#[test]
fn schemas_that_are_not_supported_are_named() {
    let refused = |schema: &str| {
        let params = GenerateParams { json_schema: Some(schema.to_owned()), ..greedy(10) };
        match start("x", params, GenerationOptions::default()).err() {
            Some(ModelError::InvalidArgument(message)) => message,
            other => panic!("{schema}: {other:?}"),
        }
    };
    assert!(refused("{").starts_with("json_schema is not JSON"));
    assert_eq!(refused("[]"), "json_schema is not a JSON object");
    for (schema, named) in [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "object", "propertyNames": {"minLength": 2}}), "propertyNames"),
        (json!({"if": {"type": "string"}, "then": {}}), "if"),
        (json!({"type": "strung"}), "strung"),
        (json!({"$ref": "#/$defs/nowhere"}), "nowhere"),
        (json!({"$ref": "https://example.com/schema.json"}), "example.com"),
        (json!({"type": "string", "pattern": "(a"}), "json_schema"),
    ] {
        let message = refused(&schema.to_string());
        assert!(message.contains(named) && !message.contains('\n'), "{schema}: {message}");
    }
    let params = GenerateParams { stop: vec!["x".into()], ..constrained(&person(), 10) };
    assert!(matches!(start("x", params, GenerationOptions::default()), Err(ModelError::InvalidArgument(_))));
}
