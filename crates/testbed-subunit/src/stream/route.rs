use std::borrow::Borrow;
use std::fmt;

use thiserror::Error;

use super::Sink;
use crate::event::EventRef;

/// A step, or several parted by `/`, of the way back to an event's origin: not empty, without NUL.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Code(Box<str>);

/// What cannot be a route code.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CodeError {
    /// It is empty.
    #[error("a route code is not empty")]
    Empty,
    /// It holds U+0000.
    #[error("route code holds a NUL character")]
    Nul,
}

impl Code {
    /// The route code `code`.
    ///
    /// # Errors
    /// Where it is empty or holds NUL.
    pub fn new(code: &str) -> Result<Self, CodeError> {
        match code {
            "" => Err(CodeError::Empty),
            code if code.contains('\0') => Err(CodeError::Nul),
            code => Ok(Self(code.into())),
        }
    }

    /// The code as it stands in events.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `route` leads through this code, and what is left of it behind: `1/0` behind `1` is `0`, and `1`
    /// behind `1` is no route at all. `01` and `10` are not behind `1`.
    pub fn strip<'a>(&self, route: &'a str) -> Option<Option<&'a str>> {
        let rest = route.strip_prefix(&*self.0)?;
        if rest.is_empty() { Some(None) } else { rest.strip_prefix('/').map(Some) }
    }
}

impl Borrow<str> for Code {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Says of each event that it came by a route: what a multiplexer does to each of its streams.
///
/// An event without a route gets the code, and one with a route gets it in front: `0` behind `1` is `1/0`. Where
/// packets are at hand, [`crate::v2::Writer::forward`] does the same without encoding them again.
#[derive(Clone, Debug)]
pub struct Prefix<S> {
    code: Code,
    /// The code, `/`, and the route of the event at hand.
    joined: String,
    sink: S,
}

impl<S> Prefix<S> {
    /// Puts `code` in front of each event's route, on its way to `sink`.
    pub fn new(code: Code, sink: S) -> Self {
        Self { code, joined: String::new(), sink }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Prefix<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let route = match event.route() {
            None => self.code.as_str(),
            Some(behind) => {
                self.joined.clear();
                self.joined.extend([self.code.as_str(), "/", behind]);
                &self.joined
            }
        };
        event.draft().route(route).send(&mut self.sink)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Event};

    #[test]
    fn what_is_behind_a_code() {
        let one = Code::new("1").unwrap();
        assert_eq!(one.strip("1"), Some(None));
        assert_eq!(one.strip("1/0"), Some(Some("0")));
        assert_eq!(one.strip("1/"), Some(Some("")));
        assert_eq!((one.strip("01"), one.strip("10"), one.strip("")), (None, None, None));
        assert_eq!(Code::new("1/2").unwrap().strip("1/2/3"), Some(Some("3")));
        assert_eq!((Code::new(""), Code::new("\0")), (Err(CodeError::Empty), Err(CodeError::Nul)));
    }

    #[test]
    fn two_levels_keep_the_origin() {
        let code = |code| Code::new(code).unwrap();
        let mut stream = Prefix::new(code("0"), Prefix::new(code("1"), Vec::<Event>::new()));
        Draft::new().send(&mut stream).unwrap();
        Draft::new().route("7").send(&mut stream).unwrap();
        let seen = stream.into_inner().into_inner();
        assert_eq!(seen.iter().map(|e| e.as_ref().route()).collect::<Vec<_>>(), [Some("1/0"), Some("1/0/7")]);
    }
}
