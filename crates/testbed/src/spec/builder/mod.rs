//! The same model without a file.
//!
//! Each method writes what its key says in `testbed.toml`; what is wrong shows when it is built, all at once.

mod machine;

pub use machine::{DefaultsBuilder, InterfaceBuilder, MachineBuilder, ServiceBuilder};

use super::files::{Files, HostFiles};
use super::load::check_tree;
use super::model::Testbed;
use super::problem::{Place, Problem, ProblemKind, Problems};
use super::raw::{Entry, Node, Value, join};
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Testbed {
    /// Describes a testbed in Rust.
    ///
    /// ```
    /// use testbed::spec::Testbed;
    ///
    /// let bed = Testbed::builder("pair")
    ///     .network("lan", |lan| lan.subnet("10.0.0.0/24"))
    ///     .machine("a", |a| a.interface("lan", "10.0.0.1"))
    ///     .machine("b", |b| b.attach("lan"))
    ///     .test("a reaches b", |test| test.on("a").run("ping -c 1 b"))
    ///     .build()?;
    /// assert_eq!(bed.machine("b").unwrap().interfaces()[0].addresses()[0].to_string(), "10.0.0.2/24");
    /// # Ok::<(), testbed::spec::Problems>(())
    /// ```
    pub fn builder(name: impl Into<String>) -> Builder {
        let mut fields = Fields::default();
        fields.set("name", name.into());
        Builder { fields, folder: PathBuf::from(".") }
    }
}

/// A testbed being described. Made by [`Testbed::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    fields: Fields,
    folder: PathBuf,
}

impl Builder {
    /// The folder that relative paths start from; the working folder if this is not called.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.folder = folder.into();
        self
    }

    /// Adds an image.
    pub fn image(mut self, name: &str, describe: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Builder {
        self.fields.put("images", name, describe(ImageBuilder(Fields::default())).0);
        self
    }

    /// Adds a network.
    pub fn network(mut self, name: &str, describe: impl FnOnce(NetworkBuilder) -> NetworkBuilder) -> Builder {
        self.fields.put("networks", name, describe(NetworkBuilder(Fields::default())).0);
        self
    }

    /// Adds a machine.
    pub fn machine(mut self, name: &str, describe: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Builder {
        self.fields.put("machines", name, describe(MachineBuilder::default()).into_fields());
        self
    }

    /// Adds a test.
    pub fn test(mut self, name: &str, describe: impl FnOnce(TestBuilder) -> TestBuilder) -> Builder {
        self.fields.append("tests", describe(TestBuilder(Fields::default()).name(name)).0);
        self
    }

    /// Adds a test of each executable that matches, named after its path.
    pub fn tests(mut self, files: &str, describe: impl FnOnce(TestBuilder) -> TestBuilder) -> Builder {
        let mut fields = Fields::default();
        fields.set("files", files);
        self.fields.append("tests", describe(TestBuilder(fields)).0);
        self
    }

    /// Puts all machines and networks into one machine with a kernel of its own, which has this much memory (`512M`).
    pub fn capsule(mut self, memory: &str) -> Builder {
        self.fields.set("capsule", Fields::of("memory", memory));
        self
    }

    /// What holds for every machine that does not say otherwise, and the deadlines.
    pub fn defaults(mut self, describe: impl FnOnce(DefaultsBuilder) -> DefaultsBuilder) -> Builder {
        self.fields.set("defaults", describe(DefaultsBuilder::default()).into_fields());
        self
    }

    /// Checks it all, files and mount sources with this computer's.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build(self) -> Result<Testbed, Problems> {
        match HostFiles::new(&self.folder) {
            Ok(files) => self.build_with(&files).map(|(testbed, _)| testbed),
            Err(error) => {
                let mut problems = Problems::default();
                let message = format!("cannot use the folder {}: {error}", self.folder.display());
                problems.push(Problem::error(ProblemKind::MissingFile, &Place::default(), message));
                Err(problems)
            }
        }
    }

    /// Checks it all with these files. What comes back beside the testbed are warnings.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build_with(self, files: &dyn Files) -> Result<(Testbed, Problems), Problems> {
        match check_tree(self.fields.into_node(String::new()), files, Problems::default()) {
            (Some(testbed), problems) => Ok((testbed, problems)),
            (None, problems) => Err(problems),
        }
    }
}

/// An image being described.
#[derive(Clone, Debug)]
#[must_use]
pub struct ImageBuilder(Fields);

impl ImageBuilder {
    /// What lies below: `host`, `debian:CODENAME`, a path, or another image's name.
    pub fn base(mut self, base: &str) -> Self {
        self.0.set("base", base);
        self
    }

    /// Packages of the base's distribution.
    pub fn packages<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.extend("packages", names);
        self
    }

    /// Puts a file or folder of the host in place.
    pub fn file(mut self, target: &str, source: impl AsRef<Path>) -> Self {
        self.0.put("files", target, path_text(source.as_ref()));
        self
    }

    /// Puts a file with this text in place.
    pub fn file_text(mut self, target: &str, content: &str) -> Self {
        self.0.put("files", target, Fields::of("content", content));
        self
    }

    /// Adds a layer that this text for a shell makes.
    pub fn run(mut self, text: &str) -> Self {
        self.0.extend("run", [text]);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.put("env", name, value);
        self
    }
}

/// A network being described.
#[derive(Clone, Debug)]
#[must_use]
pub struct NetworkBuilder(Fields);

impl NetworkBuilder {
    /// Gives it a subnet; call it again for one of the other family.
    pub fn subnet(mut self, subnet: &str) -> Self {
        self.0.extend("subnet", [subnet]);
        self
    }

    /// The tests own it: no addresses, and tagged frames pass.
    pub fn raw(mut self) -> Self {
        self.0.set("raw", true);
        self
    }

    /// Gives it a way out through the host.
    pub fn uplink(mut self) -> Self {
        self.0.set("uplink", true);
        self
    }

    /// The largest packet, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.0.set("mtu", i64::from(mtu));
        self
    }
}

/// A test being described.
#[derive(Clone, Debug)]
#[must_use]
pub struct TestBuilder(Fields);

impl TestBuilder {
    /// The id; of several, what their ids begin with.
    pub fn name(mut self, name: &str) -> Self {
        self.0.set("name", name);
        self
    }

    /// Where it runs: a machine, or `host`.
    pub fn on(mut self, place: &str) -> Self {
        self.0.set("on", place);
        self
    }

    /// Text for a shell.
    pub fn run(mut self, text: &str) -> Self {
        self.0.set("run", text);
        self
    }

    /// An executable file of the host.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.set("file", path_text(path.as_ref()));
        self
    }

    /// How long it may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.set("timeout", duration_text(timeout));
        self
    }

    /// It shares its copy with all tests of the run that say so.
    pub fn shared(mut self) -> Self {
        self.0.set("fresh", "run");
        self
    }

    /// It shares its copy with the tests of this group.
    pub fn group(mut self, name: &str) -> Self {
        self.0.set("group", name);
        self
    }

    /// Failing is the good end.
    pub fn expect_failure(mut self) -> Self {
        self.0.set("expect", "failure");
        self
    }

    /// What the kernel must be able to do.
    pub fn needs(mut self, need: &str) -> Self {
        self.0.extend("needs", [need]);
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: &str) -> Self {
        self.0.extend("tags", [tag]);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.put("env", name, value);
        self
    }

    /// The user on the machine that it runs as.
    pub fn user(mut self, user: &str) -> Self {
        self.0.set("user", user);
        self
    }
}

/// A table being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, Field)>);

/// A value without a place; places are known when the whole is.
#[derive(Clone, Debug)]
pub(super) enum Field {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Field>),
    Table(Fields),
}

impl Fields {
    pub(super) fn of(key: &str, value: impl Into<Field>) -> Fields {
        Fields(vec![(key.to_owned(), value.into())])
    }

    /// Sets a key, in the place of what it was.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Field>) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((key.to_owned(), value.into())),
        }
    }

    /// Adds an entry to the table at `key`. A name that is there already stays, so that the checks find it twice.
    pub(super) fn put(&mut self, key: &str, name: &str, value: impl Into<Field>) {
        if let Some((_, Field::Table(table))) = self.0.iter_mut().find(|(known, _)| known == key) {
            table.0.push((name.to_owned(), value.into()));
        } else {
            self.set(key, Fields::of(name, value));
        }
    }

    /// Adds an item to the list at `key`.
    pub(super) fn append(&mut self, key: &str, value: impl Into<Field>) {
        if let Some((_, Field::List(items))) = self.0.iter_mut().find(|(known, _)| known == key) {
            items.push(value.into());
        } else {
            self.set(key, Field::List(vec![value.into()]));
        }
    }

    /// Adds texts to the list at `key`.
    pub(super) fn extend<'a>(&mut self, key: &str, texts: impl IntoIterator<Item = &'a str>) {
        texts.into_iter().for_each(|text| self.append(key, text));
    }

    fn into_node(self, path: String) -> Node {
        let entries = self.0.into_iter().map(|(key, field)| {
            let place = Place { path: join(&path, &key), span: None };
            Entry { key, at: place.clone(), value: field.into_node(place) }
        });
        Node { value: Value::Table(entries.collect()), place: Place { path, span: None } }
    }
}

impl Field {
    fn into_node(self, place: Place) -> Node {
        let value = match self {
            Field::Text(text) => Value::Text(text),
            Field::Integer(number) => Value::Integer(number),
            Field::Float(number) => Value::Float(number),
            Field::Bool(value) => Value::Bool(value),
            Field::Table(fields) => return fields.into_node(place.path),
            Field::List(items) => Value::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(number, item)| {
                        item.into_node(Place { path: format!("{}[{number}]", place.path), span: None })
                    })
                    .collect(),
            ),
        };
        Node { value, place }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::Text(text)
    }
}

impl From<i64> for Field {
    fn from(number: i64) -> Field {
        Field::Integer(number)
    }
}

impl From<f64> for Field {
    fn from(number: f64) -> Field {
        Field::Float(number)
    }
}

impl From<bool> for Field {
    fn from(value: bool) -> Field {
        Field::Bool(value)
    }
}

impl From<Fields> for Field {
    fn from(fields: Fields) -> Field {
        Field::Table(fields)
    }
}

/// A path as the file would have it. What is not UTF-8 could not be written there, and is not found here.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn duration_text(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
