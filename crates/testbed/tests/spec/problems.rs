//! What is wrong with a file, as it is told.

mod capsules;
mod files;
mod machines;
mod shape;
mod systems;
mod tests;

use super::problems;
use insta::assert_snapshot;
use testbed::spec::check;

#[test]
fn problems_are_told_to_programs_too() {
    let text = "[machines.ä]\n[machines.b]\nhostname = \"b\"\n[machines.c]\nhostname = \"b\"\n";
    let (_, problems) = check(text, "testbed.toml", &super::files());
    assert_snapshot!(serde_json::to_string_pretty(&problems).unwrap(), @r#"
    {
      "version": 1,
      "problems": [
        {
          "severity": "error",
          "kind": "syntax",
          "message": "not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
          "path": "",
          "file": "testbed.toml",
          "line": 1,
          "column": 11,
          "end_line": 1,
          "end_column": 12,
          "source": "[machines.ä]"
        },
        {
          "severity": "error",
          "kind": "duplicate",
          "message": "`b` and `c` have the same host name",
          "path": "machines.c.hostname",
          "file": "testbed.toml",
          "line": 5,
          "column": 12,
          "end_line": 5,
          "end_column": 15,
          "source": "hostname = \"b\"",
          "related": [
            {
              "path": "machines.b.hostname",
              "file": "testbed.toml",
              "line": 3,
              "column": 12,
              "end_line": 3,
              "end_column": 15,
              "source": "hostname = \"b\"",
              "label": "the other one"
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn what_a_file_says_cannot_drive_a_terminal() {
    let shown = problems("[machines.a]\nimage = \"\\u001b[2J\\u202e\"\n");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}
