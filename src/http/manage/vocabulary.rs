//! The control protocol's part of the description: a path for each request, made from the table that carries it out.

use serde_json::{Map, Value, json};

use crate::core::control::controller::code::Code;
use crate::core::control::controller::vocabulary::{CHAPTERS, EVENTS, Entry, Field, Type};
use crate::http::manage::problem::status_of;

/// Adds the requests and the stream of events to the paths of a description.
pub(super) fn describe(paths: &mut Map<String, Value>) {
    for (chapter, entries) in CHAPTERS {
        for entry in *entries {
            paths.insert(format!("/api/control/{}", entry.name), json!({"post": operation(chapter, entry)}));
        }
    }
    paths.insert("/api/events".to_owned(), json!({"get": events()}));
}

fn operation(chapter: &str, entry: &Entry) -> Value {
    let fields: Vec<&Field> = entry.internal.iter().chain(entry.data).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_owned(), schema(field))).collect();
    let mut body = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        body["required"] = json!(required);
    }
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": format!("The answer's data: {}", entry.answer),
            "content": {"application/json": {"schema": {"type": ["object", "array"]}}},
        }),
    );
    for (status, text) in refusals() {
        responses.insert(status.to_string(), refusal(&text));
    }
    json!({
        "tags": [format!("control: {chapter}")],
        "operationId": format!("control.{}", entry.name),
        "summary": entry.about,
        "parameters": [{
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "Any text of at most 128 characters; makes the request safe to repeat.",
            "schema": {"type": "string", "maxLength": 128},
        }],
        "requestBody": {
            "required": !required.is_empty(),
            "content": {"application/json": {"schema": body}},
        },
        "responses": responses,
    })
}

fn schema(field: &Field) -> Value {
    let mut schema = match field.of {
        Type::Number => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Type::Text => json!({"type": "string"}),
        Type::Flag => json!({"type": "boolean"}),
        Type::Json => json!({"type": ["object", "array"]}),
    };
    if !field.about.is_empty() {
        schema["description"] = field.about.into();
    }
    schema
}

/// Every status of a refusal, with its codes.
fn refusals() -> Vec<(u16, String)> {
    let mut found: Vec<(u16, String)> = vec![(401, "`unauthorized`".to_owned())];
    for (code, _) in Code::ALL {
        let (status, name) = (status_of(*code).as_u16(), format!("`{}`", code.as_str()));
        match found.iter_mut().find(|(known, _)| *known == status) {
            Some((_, names)) => *names = format!("{names}, {name}"),
            None => found.push((status, name)),
        }
    }
    found
}

fn refusal(text: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": text, "content": {"application/json": {"schema": schema}}})
}

fn events() -> Value {
    let names: Vec<&str> = EVENTS.iter().map(|event| event.name).collect();
    let about = format!(
        "What is told to the controller that the bearer's key is, as server-sent events: first whatever is behind \
         `after` (or the header `Last-Event-ID`) and still kept, then what happens. Data is \
         `{{targetId, event, data}}`. Events: {}. `lagged`: some were not kept.",
        names.join(", ")
    );
    json!({
        "tags": ["control: Events"],
        "operationId": "control.events",
        "summary": "What happens, as a stream.",
        "description": about,
        "parameters": [{
            "name": "after",
            "in": "query",
            "required": false,
            "description": "Number of the last event that was read; otherwise it begins with the next one.",
            "schema": {"type": "integer", "minimum": 0},
        }],
        "responses": {
            "200": {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "401": refusal("`unauthorized`"),
            "403": refusal("`denied`"),
        },
    })
}
