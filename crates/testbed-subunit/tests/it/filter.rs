//! The filter against the records of what goes in and comes out.

use std::collections::BTreeSet;

use proptest::prelude::*;
use testbed_subunit::record::Record;
use testbed_subunit::stream::{Filter, Rules, Sink};
use testbed_subunit::{Draft, Event, Status};

use crate::arbitrary;

fn filtered(rules: Rules, events: &[Event]) -> Vec<Event> {
    let mut filter = Filter::new(rules, Vec::new());
    events.iter().for_each(|event| filter.event(event.as_ref()).unwrap());
    filter.finish().unwrap();
    filter.into_inner()
}

fn events(drafts: &[Draft<'_>]) -> Vec<Event> {
    drafts.iter().map(|draft| draft.check().unwrap().to_owned()).collect()
}

/// Ids and statuses of the events, in their order.
fn told(events: &[Event]) -> Vec<String> {
    let one = |event: &Event| {
        let event = event.as_ref();
        format!("{} {}", event.id().unwrap_or("-"), event.status().map_or("-", Status::as_str))
    };
    events.iter().map(one).collect()
}

fn records(events: &[Event]) -> Vec<Record> {
    crate::records::records(events.iter().map(|event| event.as_ref().draft()))
}

/// Every status, with a test before it that goes on.
fn run() -> Vec<Event> {
    let mut drafts = vec![
        Draft::output("stdout", b"starting\n"),
        Draft::test("open", Status::InProgress).route("0").tags(&["slow"]),
    ];
    for status in Status::ALL {
        drafts.push(Draft::new().id(status.as_str()).file("log", b"text\n").route("0"));
        drafts.push(Draft::test(status.as_str(), status).route("0").tags(&["worker-0"]));
    }
    events(&drafts)
}

#[test]
fn only_failures() {
    let seen = filtered(Rules::only_failures(), &run());
    assert_eq!(
        told(&seen),
        [
            "uxsuccess -",
            "uxsuccess uxsuccess",
            "fail -",
            "fail fail",
            "open inprogress",
            "inprogress -",
            "inprogress inprogress"
        ]
    );
    assert!(seen.iter().all(|event| event.as_ref().route() == Some("0")));
}

#[test]
fn each_status_can_be_left_out() {
    for status in Status::ALL {
        let one = format!("{status} {status}");
        let without = filtered(Rules::new().without_status(status), &run());
        assert_eq!(without.len(), run().len() - if status == Status::InProgress { 3 } else { 2 });
        assert!(told(&run()).contains(&one) && !told(&without).contains(&one));
    }
}

#[test]
fn tags_of_any_event_count() {
    let tagged = events(&[
        Draft::test("a", Status::InProgress).tags(&["slow"]),
        Draft::test("a", Status::Success).tags(&["worker-0"]),
        Draft::test("b", Status::Success).tags(&["worker-0"]),
        Draft::test("c", Status::Success),
    ]);
    let of = |rules| told(&filtered(rules, &tagged));
    assert_eq!(of(Rules::new().with_tag("worker-0").with_tag("slow")), ["a inprogress", "a success"]);
    assert_eq!(of(Rules::new().without_tag("slow").without_tag("fast")), ["b success", "c success"]);
    assert_eq!(of(Rules::new().with_tag("worker-0").without_tag("slow")), ["b success"]);
}

#[test]
fn a_rule_about_ids_holds_nothing_back() {
    let mut filter = Filter::new(Rules::new().ids(|id| id != "b"), Vec::new());
    for draft in [Draft::test("a", Status::InProgress), Draft::test("b", Status::InProgress)] {
        draft.send(&mut filter).unwrap();
    }
    assert_eq!(told(&filter.into_inner()), ["a inprogress"]);
}

#[test]
fn a_rule_may_look_at_all_events() {
    let kept = Rules::new().tests(|test| {
        let holds = |text: &[u8]| test.events().filter_map(|e| e.file()).any(|file| file.bytes == text);
        holds(b"needle") && test.runnable() && test.status() == Status::Fail
    });
    let seen = filtered(
        kept,
        &events(&[
            Draft::new().id("a").file("log", b"needle"),
            Draft::new().id("b").file("log", b"hay"),
            Draft::test("b", Status::Fail),
            Draft::test("a", Status::Fail),
            Draft::test("c", Status::Fail).file("log", b"needle"),
            Draft::activity("d", Status::Fail).file("log", b"needle"),
        ]),
    );
    assert_eq!(told(&seen), ["a -", "a fail", "c fail"]);
}

#[test]
fn one_id_on_two_routes_is_two_tests() {
    let seen = filtered(
        Rules::only_failures(),
        &events(&[
            Draft::test("t", Status::InProgress).route("0"),
            Draft::test("t", Status::InProgress).route("1"),
            Draft::test("t", Status::Fail).route("1"),
            Draft::test("t", Status::Success).route("0"),
        ]),
    );
    assert_eq!(told(&seen), ["t inprogress", "t fail"]);
    assert!(seen.iter().all(|event| event.as_ref().route() == Some("1")));
}

#[test]
fn what_cannot_be_held_back_is_kept() {
    let mut filter = Filter::new(Rules::only_failures().limit(2_600), Vec::new());
    let log = vec![b'x'; 900];
    for id in ["small", "large", "large", "large"] {
        Draft::new().id(id).file("log", if id == "small" { b"" } else { &log }).send(&mut filter).unwrap();
    }
    for id in ["small", "large"] {
        Draft::test(id, Status::Success).send(&mut filter).unwrap();
    }
    Draft::test("later", Status::InProgress).send(&mut filter).unwrap();
    Draft::test("later", Status::Success).send(&mut filter).unwrap();
    assert_eq!(filter.unjudged(), 1);
    assert_eq!(told(&filter.into_inner()), ["large -", "large -", "large -", "large success"]);
}

#[test]
fn tests_without_number_are_not_held_back() {
    let mut filter = Filter::new(Rules::only_failures().limit(100_000), Vec::new());
    for n in 0..2_000 {
        Draft::test(&n.to_string(), Status::InProgress).send(&mut filter).unwrap();
    }
    assert!(filter.unjudged() > 1_500);
    let before = filter.unjudged();
    for n in 0..2_000 {
        Draft::test(&n.to_string(), Status::Success).send(&mut filter).unwrap();
    }
    // All have ended, so there is room again.
    Draft::test("later", Status::InProgress).send(&mut filter).unwrap();
    assert_eq!(filter.unjudged(), before);
    assert_eq!(filter.into_inner().len() as u64, 2 * before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The records of what comes out are those records of what goes in that the rules keep.
    #[test]
    fn keeps_whole_tests(
        mut events in proptest::collection::vec((arbitrary::event(), 0..4u8), 0..30),
        left_out in proptest::sample::subsequence(Status::ALL.to_vec(), 0..=7),
        tag in "[ab]",
    ) {
        // Few tests, so that they have several events, and few tags, so that they are met.
        let events: Vec<Event> = events
            .drain(..)
            .map(|(event, n)| {
                let tags: &[&str] = match n { 0 => &["a"], 1 => &["b", "c"], _ => &[] };
                let id = ["x", "y", "z", "x"][usize::from(n)];
                let draft = event.as_ref().draft().route((n == 3).then_some("0")).tags(tags);
                draft.id(event.as_ref().id().map(|_| id)).check().unwrap().to_owned()
            })
            .collect();
        let rules = left_out.iter().fold(Rules::new().without_tag(&tag), |rules, &status| rules.without_status(status));
        let kept = |record: &Record| {
            let status = record.status.unwrap_or(Status::InProgress);
            !left_out.contains(&status) && !record.tags.contains(&*tag)
        };
        let mut expected = records(&events);
        expected.retain(kept);
        let out = filtered(rules, &events);
        prop_assert_eq!(records(&out), expected);
        let outside = |events: &[Event]| {
            events.iter().filter(|event| event.as_ref().id().is_none()).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(outside(&out), outside(&events));
        let routes: BTreeSet<_> = out.iter().map(|event| event.as_ref().route()).collect();
        prop_assert!(routes.iter().all(|route| matches!(route, None | Some("0"))));
    }
}
