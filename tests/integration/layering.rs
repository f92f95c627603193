//! The shape of `src`: which module may name which, where the outside world may be named, how files begin
//! and how long they grow. Within one crate no compiler holds this.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules and what each may name beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("bridge", &["core"]),
    ("sip", &["core"]),
    ("webrtc", &["core"]),
    ("rtmp", &["core"]),
    ("moq", &["core"]),
    ("http", &["core"]),
    ("rooms", &["core"]),
    ("whip_whep", &["core", "webrtc"]),
    ("bench", &["core", "webrtc"]),
    ("fuzzing", &["core", "sip", "webrtc", "rooms", "rtmp"]),
    ("config", &["core", "bridge", "sip", "webrtc", "rtmp", "moq", "http", "rooms", "whip_whep"]),
    ("server", &["config", "core", "bridge", "sip", "webrtc", "rtmp", "moq", "http", "rooms", "whip_whep"]),
];

/// The parts of `core`, bottom to top. A part names those before it.
const CORE: &[&str] = &[
    "base64",
    "id",
    "time",
    "error",
    "metrics",
    "lane",
    "rtp",
    "payload",
    "profile",
    "capabilities",
    "data",
    "session",
    "convert",
    "mail",
    "message",
    "plain",
    "producer",
    "consumer",
    "observer",
    "router",
    "auth",
    "origins",
    "egress",
    "transport",
    "peer",
    "endpoint",
    "room",
    "timer",
    "worker",
    "cluster",
    "control",
    "io",
];

/// What only files called `io.rs`, or below a folder `io`, and the program's edge may name.
const OUTSIDE: &[&str] = &[
    "tokio",
    "mio::",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "std::thread",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
];

/// The top-level modules that are the program's edge.
const EDGE: &[&str] = &["main", "server", "config"];

/// Files that an adapter's folder may hold (or folders of these names).
const ADAPTER_FILES: &[&str] =
    &["mod", "config", "error", "wire", "demux", "session", "ingress", "egress", "io", "tests"];

/// Adapters whose whole folder follows [`ADAPTER_FILES`], each with what it has beside: SDP is a wire format
/// with a negotiation of its own.
const ADAPTERS: &[(&str, &[&str])] =
    &[("sip", &[]), ("webrtc", &["sdp"]), ("rtmp", &[]), ("moq", &[]), ("rooms", &[])];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["core/io/", "core/rtp/srtp"];

const LONGEST: usize = 900;

struct Source {
    /// Path below `src`, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The module names of its path, without `mod` and `lib`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn top(&self) -> &str {
        self.modules()[0]
    }

    fn is_tests(&self) -> bool {
        self.modules().iter().any(|part| *part == "tests" || part.ends_with("_tests"))
    }

    /// The code proper: no unit tests at the end, no comments, no text literals.
    fn code(&self) -> String {
        let body = self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        body.lines().map(bare).collect::<Vec<_>>().join("\n")
    }
}

/// A line without its text literals and its comment.
fn bare(line: &str) -> String {
    let (mut out, mut quoted, mut chars) = (String::new(), false, line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => out.push(c),
        }
    }
    out
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let path = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

/// Fails with every fault that `judge` finds in any source.
fn hold(judge: impl Fn(&Source) -> Vec<String>) {
    let mut faults: Vec<String> = sources()
        .iter()
        .flat_map(|source| judge(source).into_iter().map(|fault| format!("src/{}: {fault}", source.path)))
        .collect();
    faults.sort();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Every path that `code` names behind `crate::`, up to two parts deep, braces opened.
fn named(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            read_path(&code[at + "crate::".len()..], &mut Vec::new(), &mut paths);
        }
    }
    paths
}

/// Reads one `use` tree; answers what is left behind it.
fn read_path<'a>(text: &'a str, prefix: &mut Vec<String>, paths: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return rest;
            }
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            rest = read_path(rest, prefix, paths).trim_start();
            // `as name`, and whatever else stands before the next item.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return rest;
    }
    prefix.push(name.to_string());
    paths.insert(prefix[..prefix.len().min(2)].join("::"));
    let rest = match rest.strip_prefix("::") {
        Some(below) => read_path(below, prefix, paths),
        None => rest,
    };
    prefix.pop();
    rest
}

#[test]
fn modules_name_only_what_lies_below_them() {
    hold(|source| {
        let top = source.top();
        if top == "lib" || top == "main" || source.is_tests() {
            return Vec::new();
        }
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == top) else {
            return vec!["its module stands in no layer".into()];
        };
        let names = named(&source.code());
        let outer = names.iter().map(|path| path.split("::").next().unwrap_or_default());
        let outer: BTreeSet<&str> = outer.filter(|name| *name != top && !below.contains(name)).collect();
        outer.into_iter().map(|name| format!("names crate::{name}")).collect()
    });
}

#[test]
fn parts_of_the_core_name_only_those_before_them() {
    hold(|source| {
        let modules = source.modules();
        let (true, Some(part)) = (modules[0] == "core" && !source.is_tests(), modules.get(1)) else {
            return Vec::new();
        };
        let place = |part: &str| CORE.iter().position(|name| *name == part);
        let Some(own) = place(part) else {
            return vec![format!("core::{part} has no place in the order")];
        };
        let names = named(&source.code());
        let inner = names.iter().filter_map(|path| path.strip_prefix("core::"));
        let above = inner.filter(|name| place(name).is_some_and(|place| place > own));
        above.map(|name| format!("names crate::core::{name}, which lies above it")).collect()
    });
}

#[test]
fn the_outside_world_is_named_only_at_the_edge() {
    hold(|source| {
        let modules = source.modules();
        if EDGE.contains(&modules[0]) || modules.contains(&"io") || source.is_tests() {
            return Vec::new();
        }
        let code = source.code();
        OUTSIDE.iter().filter(|word| code.contains(*word)).map(|word| format!("names {word}")).collect()
    });
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    hold(|source| {
        let code = source.code();
        let has = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        let may = UNSAFE.iter().any(|prefix| source.path.starts_with(prefix));
        if has && !may { vec!["has unsafe code".into()] } else { Vec::new() }
    });
}

#[test]
fn every_adapter_uses_the_same_file_names() {
    hold(|source| {
        let mut parts = source.path.trim_end_matches(".rs").split('/');
        let (Some(top), Some(file)) = (parts.next(), parts.next()) else { return Vec::new() };
        match ADAPTERS.iter().find(|(name, _)| *name == top) {
            Some((_, beside)) if !ADAPTER_FILES.contains(&file) && !beside.contains(&file) => {
                vec![format!("{file} is no name for an adapter's file")]
            }
            _ => Vec::new(),
        }
    });
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    hold(|source| {
        let mut faults = Vec::new();
        if !source.text.starts_with("//! ") && !source.is_tests() {
            faults.push("does not begin by saying what it is (`//! ...`)".into());
        }
        let body = source.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = body.lines().count();
        if lines > LONGEST && !source.is_tests() {
            faults.push(format!("has {lines} lines"));
        }
        faults
    });
}

#[test]
fn the_entry_point_fits_on_a_screen() {
    let main = sources().into_iter().find(|source| source.path == "main.rs").expect("main.rs");
    assert!(main.text.lines().count() <= 60);
}

#[test]
fn paths_are_read_out_of_code() {
    let of = |code: &str| named(code).into_iter().collect::<Vec<_>>();
    let code = "use crate::{core::{id::{A, B as C}, rtp}, sip::X};\nlet x = crate::rtmp::io::serve();";
    assert_eq!(of(code), ["core", "core::id", "core::rtp", "rtmp", "rtmp::io", "sip", "sip::X"]);
    assert_eq!(of("mycrate::core::id"), Vec::<String>::new());
    assert_eq!(bare(r#"call("crate::sip \" x") // crate::rtmp"#).trim(), "call()");
}
