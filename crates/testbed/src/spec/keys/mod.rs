//! The keys of `testbed.toml`: the one table that drives the parser, the reference page and the schema for editors.

mod machine;
mod tables;

pub(super) use tables::TESTBED;

/// A table of the file.
pub(super) struct Table {
    /// Its headline in the reference: `[machines.NAME]`.
    pub(super) title: &'static str,
    /// Its name in the schema.
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// Another table whose keys are legal here too.
    pub(super) includes: Option<&'static Table>,
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.all_keys().find(|key| key.name == name)
    }

    pub(super) fn all_keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().chain(self.includes.into_iter().flat_map(|table| table.keys))
    }
}

/// A key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What holds without the key, for people; empty if that needs no word.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

/// What a key's value may be.
pub(super) enum Kind {
    Text(Form),
    /// One of these texts.
    Choice(&'static [&'static str]),
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// An integer or a floating-point number.
    Number,
    List(&'static Kind),
    /// A table with keys of the user's choice.
    Map {
        /// What the keys are, for people.
        key: &'static str,
        value: &'static Kind,
    },
    Table(&'static Table),
    /// One of several, no two of the same TOML type, so that the type tells which one was meant.
    Any(&'static [Kind]),
}

/// What a text holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Shell,
    Name,
    Path,
    Inside,
    User,
    Duration,
    Size,
    Subnet,
    Address,
    Mac,
}

impl Form {
    /// For "expected …" and the reference.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Form::Plain => "text",
            Form::Shell => "text for a shell",
            Form::Name => "a name",
            Form::Path => "a path",
            Form::Inside => "an absolute path",
            Form::User => "a user",
            Form::Duration => "a duration",
            Form::Size => "a size",
            Form::Subnet => "a subnet",
            Form::Address => "an IP address",
            Form::Mac => "a MAC address",
        }
    }

    pub(super) fn example(self) -> Option<&'static str> {
        match self {
            Form::Plain | Form::Shell | Form::Name | Form::Path => None,
            Form::Inside => Some("/etc/app.conf"),
            Form::User => Some("www-data"),
            Form::Duration => Some("10s"),
            Form::Size => Some("128M"),
            Form::Subnet => Some("10.1.0.0/24"),
            Form::Address => Some("10.1.0.1"),
            Form::Mac => Some("02:00:00:00:00:01"),
        }
    }

    /// A regular expression for editors, where a simple one tells most mistakes.
    pub(super) fn pattern(self) -> Option<&'static str> {
        match self {
            Form::Duration => Some(r"^([0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h)\s*)+$"),
            Form::Size => Some(r"^[0-9]+(\.[0-9]+)?\s*([KMGT](iB|B)?|B)?$"),
            Form::Subnet => Some(r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"),
            Form::Address => Some(r"^[0-9a-fA-F:.]+\+?$"),
            Form::Mac => Some(r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"),
            Form::Inside => Some("^/"),
            _ => None,
        }
    }
}

pub(super) const TEXT: Kind = Kind::Text(Form::Plain);
pub(super) const TEXTS: Kind = Kind::List(&TEXT);
pub(super) const ENV: Kind = Kind::Map { key: "variable", value: &TEXT };

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The TOML types that a kind takes.
    fn types(kind: &Kind) -> Vec<&'static str> {
        match kind {
            Kind::Text(_) | Kind::Choice(_) => vec!["string"],
            Kind::Bool => vec!["boolean"],
            Kind::Integer { .. } => vec!["integer"],
            Kind::Number => vec!["integer", "float"],
            Kind::List(_) => vec!["array"],
            Kind::Map { .. } | Kind::Table(_) => vec!["table"],
            Kind::Any(kinds) => kinds.iter().flat_map(types).collect(),
        }
    }

    fn visit(kind: &Kind, look: &mut dyn FnMut(&Kind)) {
        look(kind);
        match kind {
            Kind::List(inner) | Kind::Map { value: inner, .. } => visit(inner, look),
            Kind::Any(kinds) => kinds.iter().for_each(|kind| visit(kind, look)),
            Kind::Table(table) => table.all_keys().for_each(|key| visit(&key.kind, look)),
            _ => {}
        }
    }

    #[test]
    fn the_type_of_a_value_tells_which_alternative_was_meant() {
        visit(&Kind::Table(&TESTBED), &mut |kind| {
            let mut types = types(kind);
            let all = types.len();
            types.sort_unstable();
            types.dedup();
            assert_eq!(types.len(), all, "{types:?}");
        });
    }

    #[test]
    fn no_table_has_a_key_twice_and_every_key_is_documented() {
        visit(&Kind::Table(&TESTBED), &mut |kind| {
            let Kind::Table(table) = kind else { return };
            let mut names: Vec<_> = table.all_keys().map(|key| key.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", table.title);
            assert!(table.all_keys().all(|key| key.doc.ends_with('.')), "{}", table.title);
        });
    }
}
