use std::collections::HashMap;

use super::{Code, Sink};
use crate::event::EventRef;

/// One of the sinks of a [`Router`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target(usize);

/// Gives each event to one of several sinks, by rules.
///
/// A rule about the route goes before one about the test, and of several about the route the longest. Several rules
/// may lead to one sink. What no rule is about goes to the fallback.
///
/// ```
/// use testbed_subunit::stream::{Code, Router, Sink};
/// use testbed_subunit::{Draft, Event};
///
/// let mut router = Router::new(Vec::<Event>::new());
/// let worker = router.add(Vec::new());
/// router.route(Code::new("1")?, worker, true);
/// Draft::output("stdin", b"continue\n").route("1/0").send(&mut router)?;
/// router.finish()?;
/// assert_eq!(router.sink(worker)[0].as_ref().route(), Some("0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Router<S> {
    /// The first is the fallback.
    sinks: Vec<S>,
    routes: HashMap<Code, Route>,
    /// The steps of the code that has most.
    deepest: usize,
    tests: HashMap<Box<str>, Target>,
    outside: Option<Target>,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    target: Target,
    consume: bool,
}

impl<S> Router<S> {
    /// A router without rules: all events go to `fallback`, which may be a [`super::Discard`].
    pub fn new(fallback: S) -> Self {
        Self {
            sinks: vec![fallback],
            routes: HashMap::new(),
            deepest: 0,
            tests: HashMap::new(),
            outside: None,
        }
    }

    /// Adds a sink, for rules to lead to. It may come while events do.
    pub fn add(&mut self, sink: S) -> Target {
        self.sinks.push(sink);
        Target(self.sinks.len() - 1)
    }

    /// Events whose route begins with the steps of `code` go to `target`. With `consume` they lose these steps.
    pub fn route(&mut self, code: Code, target: Target, consume: bool) {
        self.deepest = self.deepest.max(code.as_str().split('/').count());
        self.routes.insert(code, Route { target, consume });
    }

    /// Events of the test `id` go to `target`.
    pub fn test(&mut self, id: &str, target: Target) {
        self.tests.insert(id.into(), target);
    }

    /// Events of no test go to `target`.
    pub fn outside(&mut self, target: Target) {
        self.outside = Some(target);
    }

    /// The sink of `target`. That of another router's target is the fallback.
    pub fn sink(&self, target: Target) -> &S {
        self.sinks.get(target.0).unwrap_or(&self.sinks[0])
    }

    /// The fallback and all sinks that were added, in their order.
    pub fn into_inner(self) -> Vec<S> {
        self.sinks
    }

    /// The rule with the longest code that `route` leads through, and what is left of the route behind it.
    fn rule<'a>(&self, route: &'a str) -> Option<(Route, Option<&'a str>)> {
        let ends = route.match_indices('/').map(|(at, _)| at).chain([route.len()]).take(self.deepest);
        let rules = ends.filter_map(|end| {
            let (code, rest) = route.split_at(end);
            Some((*self.routes.get(code)?, rest.strip_prefix('/')))
        });
        rules.last()
    }
}

impl<S: Sink> Sink for Router<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let by_route = event.route().and_then(|route| self.rule(route));
        let target = match (by_route, event.id()) {
            (Some((rule, _)), _) => Some(rule.target),
            (None, Some(id)) => self.tests.get(id).copied(),
            (None, None) => self.outside,
        };
        let at = target.map_or(0, |target| target.0);
        let at = if at < self.sinks.len() { at } else { 0 };
        let sink = &mut self.sinks[at];
        match by_route {
            Some((Route { consume: true, .. }, rest)) => event.draft().route(rest).send(sink),
            _ => sink.event(event),
        }
    }

    /// Each sink's stream ends once, however many rules lead to it.
    fn finish(&mut self) -> Result<(), S::Error> {
        let mut first = Ok(());
        for sink in &mut self.sinks {
            first = first.and(sink.finish());
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Event, EventError, Status};

    fn code(code: &str) -> Code {
        Code::new(code).unwrap()
    }

    /// Whom the events of the drafts reach, and by which route.
    fn routed(router: &mut Router<Vec<Event>>, drafts: &[Draft<'_>]) -> Vec<(usize, Option<String>)> {
        let mut seen = Vec::new();
        for draft in drafts {
            draft.send(router).unwrap();
            for (place, sink) in router.sinks.iter_mut().enumerate() {
                let routes = sink.drain(..).map(|event| (place, event.as_ref().route().map(str::to_owned)));
                seen.extend(routes);
            }
        }
        seen
    }

    #[test]
    fn rules_in_their_order() {
        let mut router = Router::new(Vec::new());
        let (one, two, three) = (router.add(Vec::new()), router.add(Vec::new()), router.add(Vec::new()));
        router.route(code("0"), one, false);
        router.route(code("0/1"), two, true);
        router.test("t", three);
        router.outside(three);
        let test = |route| Draft::test("t", Status::Exists).route(route);
        let to = |place, route: Option<&str>| (place, route.map(str::to_owned));
        assert_eq!(
            routed(
                &mut router,
                &[
                    test("0"),
                    test("0/1"),
                    test("0/1/2"),
                    test("0/2"),
                    test("01"),
                    Draft::test("u", Status::Exists),
                    Draft::output("f", b""),
                ]
            ),
            [
                to(1, Some("0")),
                to(2, None),
                to(2, Some("2")),
                to(1, Some("0/2")),
                to(3, Some("01")),
                to(0, None),
                to(3, None),
            ]
        );
        let mut other = Router::new(Vec::new());
        other.outside(three);
        assert_eq!(routed(&mut other, &[Draft::output("f", b"")]), [to(0, None)]);
    }

    #[test]
    fn each_stream_ends_once() {
        struct Ends(u32);
        impl Sink for Ends {
            type Error = EventError;

            fn event(&mut self, _: EventRef<'_>) -> Result<(), EventError> {
                Ok(())
            }

            fn finish(&mut self) -> Result<(), EventError> {
                self.0 += 1;
                Ok(())
            }
        }
        let mut router = Router::new(Ends(0));
        let one = router.add(Ends(0));
        router.route(code("0"), one, true);
        router.test("t", one);
        router.finish().unwrap();
        assert!(router.into_inner().iter().all(|ends| ends.0 == 1));
    }
}
