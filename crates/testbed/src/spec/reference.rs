//! The table of keys as a page of the reference.

use super::keys::{Form, Kind, TESTBED, Table};
use super::model::ABILITIES;
use std::fmt::Write;

/// The reference page of `testbed.toml`, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let mut tables: Vec<&'static Table> = vec![&TESTBED];
    let mut next = 0;
    while let Some(table) = tables.get(next).copied() {
        next += 1;
        for key in table.keys {
            collect(&key.kind, &mut tables);
        }
        section(&mut page, table);
    }
    page.push_str("\n## Needs\n\nWhat `needs` may name, beside `module:NAME` for a kernel module:\n\n| need | is |\n|---|---|\n");
    for ability in ABILITIES {
        line(&mut page, &format!("| `{}` | {} |", ability.name, ability.doc));
    }
    page
}

const HEAD: &str = "\
<!-- Generated from the table of keys in crates/testbed/src/spec/keys. Do not edit. -->

# The file

`testbed.toml` describes a testbed. `testbed check` reports everything that is wrong with it at once, with a hint for
each; `testbed plan` shows what would be made. A JSON Schema for editors is in `testbed.schema.json` beside this page.

```toml
[networks]
lan = { subnet = \"10.1.0.0/24\" }

[machines.server]
interfaces = { lan = \"10.1.0.1\" }
services = { web = \"python3 -m http.server 8080\" }
ready = { port = 8080 }

[machines.client]
count = 2
interfaces = { lan = {} }
depends = [\"server\"]

[[tests]]
name = \"a client fetches the page\"
on = \"client-1\"
run = \"curl -f http://server:8080/\"
timeout = \"10s\"
```

- Durations are a number and a unit, `ms`, `s`, `m` (or `min`) or `h`: `\"500ms\"`, `\"10s\"`, `\"1h 30m\"`.
- Sizes are a number of bytes, or one with `K`, `M`, `G` or `T`, which are powers of 1024: `\"512M\"`.
- Paths start from the folder of the file.
- Names of networks and machines are host labels: letters `a` to `z`, digits and inner hyphens, at most 63.
- Users are `name`, `name:group` or numbers.
- Order matters where it shows: interfaces are `eth0`, `eth1`, … and addresses are given out in the order of the file.
";

fn section(page: &mut String, table: &Table) {
    let heading =
        if table.title.starts_with('[') { format!("`{}`", table.title) } else { table.title.to_owned() };
    line(
        page,
        &format!("\n## {heading}\n\n{}\n\n| key | value | default | meaning |\n|---|---|---|---|", table.doc),
    );
    for key in table.keys {
        let value = value(&key.kind).replace('|', "\\|");
        line(page, &format!("| `{}` | {value} | {} | {} |", key.name, key.default, key.doc));
    }
}

fn line(page: &mut String, line: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(page, "{line}");
}

/// The tables with fixed keys within a kind, each once.
fn collect(kind: &'static Kind, tables: &mut Vec<&'static Table>) {
    match kind {
        Kind::Table(table) if tables.iter().all(|known| known.name != table.name) => tables.push(table),
        Kind::List(inner) | Kind::Map { value: inner, .. } => collect(inner, tables),
        Kind::Any(kinds) => kinds.iter().for_each(|kind| collect(kind, tables)),
        _ => {}
    }
}

/// What a value may be, in a few words.
fn value(kind: &Kind) -> String {
    match kind {
        Kind::Text(Form::Plain) => "text".to_owned(),
        Kind::Text(form) => form.describe().trim_start_matches("an ").trim_start_matches("a ").to_owned(),
        Kind::Choice(choices) => {
            choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer { min: i64::MIN, .. } => "integer".to_owned(),
        Kind::Integer { min, max } => format!("integer from {min} to {max}"),
        Kind::Number => "number".to_owned(),
        Kind::List(items) => format!("list of: {}", value(items)),
        Kind::Map { key, value: of } => format!("table: {key} = {}", value(of)),
        Kind::Table(table) => format!("[{0}](#{1})", table.title, anchor(table.title)),
        Kind::Any(kinds) => kinds.iter().map(value).collect::<Vec<_>>().join("; or "),
    }
}

/// The anchor that a Markdown heading gets.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
