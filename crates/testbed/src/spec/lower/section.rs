use crate::spec::keys::{Kind, Table};
use crate::spec::problem::Place;
use crate::spec::raw::{Entry, Node, Value};

/// A table of the file as the lowering reads it: its own keys, and under them those of `[defaults]`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    table: &'static Table,
    own: Option<&'a Node>,
    under: Option<&'a Node>,
}

impl<'a> Section<'a> {
    pub(super) fn new(table: &'static Table, own: &'a Node) -> Section<'a> {
        Section { table, own: Some(own), under: None }
    }

    pub(super) fn over(self, under: Option<&'a Node>) -> Section<'a> {
        Section { under, ..self }
    }

    /// The key's value as written, a bad one included.
    fn raw(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.table.key(key).is_some(), "`{key}` is a key of {}", self.table.title);
        let find = |node: Option<&'a Node>| node.and_then(|node| node.get(key));
        find(self.own).or_else(|| find(self.under))
    }

    /// Whether the key was written, even if with a bad value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// The key's value, of the type that the table of keys says.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.raw(key).filter(|node| !node.is_bad())
    }

    pub(super) fn text(&self, key: &str) -> Option<(&'a str, &'a Place)> {
        self.get(key).and_then(|node| Some((node.as_text()?, &node.place)))
    }

    /// Without what `[defaults]` has.
    pub(super) fn own(&self) -> Section<'a> {
        Section { under: None, ..*self }
    }

    /// As [`Section::text`], but not of `[defaults]`.
    pub(super) fn own_text(&self, key: &str) -> Option<(&'a str, &'a Place)> {
        self.own().text(key)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Node { value: Value::Bool(true), .. }))
    }

    pub(super) fn integer(&self, key: &str) -> Option<(i64, &'a Place)> {
        match self.get(key)? {
            Node { value: Value::Integer(number), place } => Some((*number, place)),
            _ => None,
        }
    }

    /// An integer that the table of keys bounds to 32 bits without sign.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.integer(key).and_then(|(number, _)| u32::try_from(number).ok())
    }

    /// The texts of a list, or the one text in its place.
    pub(super) fn texts(&self, key: &str) -> Vec<(&'a str, &'a Place)> {
        self.get(key).map(texts).unwrap_or_default()
    }

    /// The entries of a map, those of `[defaults]` last, without bad values.
    pub(super) fn entries(&self, key: &str) -> Vec<&'a Entry> {
        let find = |node: Option<&'a Node>| node.and_then(|node| node.get(key));
        let own = find(self.own);
        let under = match own.map(|node| &node.value) {
            None | Some(Value::Table(_)) => find(self.under),
            Some(_) => None,
        };
        let mut entries: Vec<&Entry> = own.map(Node::entries).unwrap_or_default().iter().collect();
        for entry in under.map(Node::entries).unwrap_or_default() {
            if entries.iter().all(|known| known.key != entry.key) {
                entries.push(entry);
            }
        }
        entries.retain(|entry| !entry.value.is_bad());
        entries
    }

    /// A table within this one; empty if it was not written.
    pub(super) fn sub(&self, key: &str) -> Section<'a> {
        let table = self.table.key(key).and_then(|key| table_of(&key.kind)).unwrap_or(self.table);
        let find = |node: Option<&'a Node>| node.and_then(|node| node.get(key));
        Section { table, own: find(self.own), under: find(self.under) }
    }

    /// The table that an entry of a map, or an item of a list, is.
    pub(super) fn item(&self, key: &str, node: &'a Node) -> Section<'a> {
        let table = self.table.key(key).and_then(|key| table_of(&key.kind)).unwrap_or(self.table);
        Section::new(table, node)
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.own.or(self.under).map(|node| node.place.clone()).unwrap_or_default()
    }
}

/// The texts of a list, or the one text in its place.
pub(super) fn texts(node: &Node) -> Vec<(&str, &Place)> {
    node.items().iter().filter_map(|item| Some((item.as_text()?, &item.place))).collect()
}

/// The table with fixed keys that lies within a kind.
fn table_of(kind: &Kind) -> Option<&'static Table> {
    match kind {
        Kind::Table(table) => Some(table),
        Kind::List(inner) | Kind::Map { value: inner, .. } => table_of(inner),
        Kind::Any(kinds) => kinds.iter().find_map(table_of),
        _ => None,
    }
}
