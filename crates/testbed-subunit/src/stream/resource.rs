use crate::event::{Draft, Status};

/// The life of something that tests share, as events of two activities: `NAME.make` and `NAME.clean`.
///
/// They are not runnable, so that nobody takes them for tests, or tries to run them again.
///
/// ```
/// use testbed_subunit::Event;
/// use testbed_subunit::stream::Resource;
///
/// let (database, mut stream) = (Resource::new("database"), Vec::<Event>::new());
/// database.making().send(&mut stream)?;
/// database.made(true).send(&mut stream)?;
/// assert_eq!(stream[1].as_ref().id(), Some("database.make"));
/// assert!(!stream[1].as_ref().runnable());
/// # Ok::<(), testbed_subunit::EventError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    make: String,
    clean: String,
}

impl Resource {
    /// The resource `name`.
    pub fn new(name: &str) -> Self {
        Self { make: format!("{name}.make"), clean: format!("{name}.clean") }
    }

    /// It is being made.
    pub fn making(&self) -> Draft<'_> {
        Draft::activity(&self.make, Status::InProgress)
    }

    /// It has been made, or could not be.
    pub fn made(&self, well: bool) -> Draft<'_> {
        Draft::activity(&self.make, ended(well))
    }

    /// It is being cleaned up.
    pub fn cleaning(&self) -> Draft<'_> {
        Draft::activity(&self.clean, Status::InProgress)
    }

    /// It has been cleaned up, or could not be.
    pub fn cleaned(&self, well: bool) -> Draft<'_> {
        Draft::activity(&self.clean, ended(well))
    }
}

fn ended(well: bool) -> Status {
    if well { Status::Success } else { Status::Fail }
}
