//! The tables of `docs/control-protocol.md` are those of the code. `UPDATE_DOCS=1` writes them anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use viaduct::core::control::controller::code::Code;
use viaduct::core::control::controller::vocabulary::{CHAPTERS, EVENTS, Entry, Field};

/// What stands between the marks of a part.
fn parts() -> [(&'static str, String); 3] {
    [("requests", requests()), ("events", events()), ("codes", codes())]
}

fn requests() -> String {
    let mut out = String::new();
    for (chapter, entries) in CHAPTERS {
        let _ =
            write!(out, "\n### {chapter}\n\n| request | ids | data | answer |\n| --- | --- | --- | --- |\n");
        for Entry { name, about, internal, data, answer, .. } in *entries {
            let (internal, data) = (fields(internal, false), fields(data, true));
            let _ = writeln!(out, "| `{name}`<br>{about} | {internal} | {data} | {answer} |");
        }
    }
    out
}

fn fields(fields: &[Field], typed: bool) -> String {
    let one = |field: &Field| {
        let mark = if field.required { "" } else { "?" };
        let of = if typed { format!(" {}", field.of.as_str()) } else { String::new() };
        let about = if field.about.is_empty() { String::new() } else { format!(": {}", field.about) };
        format!("`{}{mark}`{of}{about}", field.name)
    };
    let all: Vec<String> = fields.iter().map(one).collect();
    if all.is_empty() { "–".into() } else { all.join("<br>") }
}

fn events() -> String {
    let mut out = "\n| event | target | data | when |\n| --- | --- | --- | --- |\n".to_owned();
    for event in EVENTS {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", event.name, event.target, event.data, event.about);
    }
    out
}

fn codes() -> String {
    let mut out = "\n| code | meaning |\n| --- | --- |\n".to_owned();
    for (code, about) in Code::ALL {
        let _ = writeln!(out, "| `{}` | {} |", code.as_str(), about.trim());
    }
    out
}

#[test]
fn the_reference_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/control-protocol.md");
    let text = fs::read_to_string(&path).expect("the reference");
    let mut wanted = text.clone();
    for (name, part) in parts() {
        let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
        let from = wanted.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
        let to = wanted.find(&end).unwrap_or_else(|| panic!("no {end}"));
        wanted.replace_range(from..to, &format!("{part}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).expect("written");
        return;
    }
    let line = wanted.lines().zip(text.lines()).find(|(wanted, there)| wanted != there);
    assert_eq!(line, None, "run with UPDATE_DOCS=1");
    assert_eq!(wanted.len(), text.len(), "run with UPDATE_DOCS=1");
}
