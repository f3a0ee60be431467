//! Which tests share a copy, and in which order copies get them.

use super::Options;
use crate::spec::{Fresh, Test, Testbed};
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Tests that run on one copy, one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) cases: VecDeque<Case>,
}

/// One execution of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// Its number in [`Testbed::tests`].
    pub(super) test: usize,
    /// Which repetition it is, from 1; none if tests are not repeated.
    pub(super) repetition: Option<usize>,
}

/// The batches of these tests, in the order in which they are to begin.
pub(super) fn batches(testbed: &Testbed, tests: &[usize], options: &Options) -> Vec<Batch> {
    let repetitions = options.repeat.get();
    let once = share(tests, |number| testbed.tests()[number].fresh());
    let mut all = Vec::with_capacity(once.len() * repetitions);
    for repetition in 1..=repetitions {
        let repetition = (repetitions > 1).then_some(repetition);
        all.extend(
            once.iter()
                .map(|tests| Batch { cases: tests.iter().map(|&test| Case { test, repetition }).collect() }),
        );
    }
    match options.shuffle {
        Some(seed) => shuffle(&mut all, seed),
        None => longest_first(&mut all, testbed.tests(), &options.history),
    }
    all
}

/// Groups tests by the copy they share, in the order of their first tests.
fn share<'a>(tests: &[usize], fresh: impl Fn(usize) -> &'a Fresh) -> Vec<Vec<usize>> {
    let mut copies: Vec<Vec<usize>> = Vec::new();
    let mut shared: HashMap<&Fresh, usize> = HashMap::new();
    for &test in tests {
        let copy = match fresh(test) {
            Fresh::Testbed => copies.len(),
            shares => *shared.entry(shares).or_insert(copies.len()),
        };
        if copy == copies.len() {
            copies.push(Vec::new());
        }
        copies[copy].push(test);
    }
    copies
}

/// What may take longest begins first, so that nobody waits for it alone at the end. What is not known may.
fn longest_first(batches: &mut [Batch], tests: &[Test], history: &HashMap<String, Duration>) {
    if history.is_empty() {
        return;
    }
    let length = |batch: &Batch| -> Option<Duration> {
        batch.cases.iter().map(|case| history.get(tests[case.test].id()).copied()).sum()
    };
    batches.sort_by_cached_key(|batch| Reverse(length(batch).unwrap_or(Duration::MAX)));
}

/// Fisher and Yates's shuffle.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        // Far fewer items than numbers: the bias is below 2⁻³².
        let other = (split_mix(&mut state) % (last as u64 + 1)) as usize;
        items.swap(last, other);
    }
}

/// The next number of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). It must
/// stay this one: a seed names an order for ever.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, FixedFiles};
    use proptest::prelude::*;

    fn testbed(tests: &str) -> Testbed {
        let (testbed, problems) =
            spec::check(&format!("[machines.m]\n{tests}"), "testbed.toml", &FixedFiles::new("/bed"));
        testbed.unwrap_or_else(|| panic!("{problems}"))
    }

    fn names(testbed: &Testbed, batches: &[Batch]) -> Vec<String> {
        let one = |batch: &Batch| {
            let ids: Vec<&str> = batch.cases.iter().map(|case| testbed.tests()[case.test].id()).collect();
            ids.join("+")
        };
        batches.iter().map(one).collect()
    }

    const MIXED: &str = r#"
        tests = [
            { name = "a", on = "m", run = "true" },
            { name = "b", on = "m", run = "true", group = "g" },
            { name = "c", on = "m", run = "true", fresh = "run" },
            { name = "d", on = "m", run = "true", group = "g" },
            { name = "e", on = "m", run = "true", fresh = "run" },
        ]"#;

    fn mixed() -> Testbed {
        let (testbed, problems) =
            spec::check(&format!("{MIXED}\n[machines.m]"), "testbed.toml", &FixedFiles::new("/bed"));
        testbed.unwrap_or_else(|| panic!("{problems}"))
    }

    #[test]
    fn groups_share_and_keep_the_order_of_the_file() {
        let testbed = mixed();
        let all: Vec<usize> = (0..5).collect();
        let batches = batches(&testbed, &all, &Options::default());
        assert_eq!(names(&testbed, &batches), ["a", "b+d", "c+e"]);
    }

    #[test]
    fn the_longest_come_first_and_the_unknown_before_them() {
        let testbed = mixed();
        let seconds = |id: &str, s| (id.to_owned(), Duration::from_secs(s));
        let history = HashMap::from([seconds("a", 2), seconds("b", 1), seconds("d", 4), seconds("c", 1)]);
        let options = Options { history, ..Options::default() };
        let batches = batches(&testbed, &[0, 1, 2, 3, 4], &options);
        assert_eq!(names(&testbed, &batches), ["c+e", "b+d", "a"]);
    }

    #[test]
    fn repetitions_get_copies_of_their_own() {
        let testbed = testbed("[[tests]]\nname = \"t\"\non = \"m\"\nrun = \"true\"\nfresh = \"run\"");
        let options = Options { repeat: 3.try_into().unwrap(), ..Options::default() };
        let batches = batches(&testbed, &[0], &options);
        let repetitions: Vec<_> = batches.iter().flat_map(|b| &b.cases).map(|c| c.repetition).collect();
        assert_eq!(repetitions, [Some(1), Some(2), Some(3)]);
    }

    proptest! {
        #[test]
        fn a_seed_names_one_order_of_the_same_items(seed: u64, length in 0..200_usize) {
            let mut once: Vec<usize> = (0..length).collect();
            let mut again = once.clone();
            shuffle(&mut once, seed);
            shuffle(&mut again, seed);
            prop_assert_eq!(&once, &again);
            once.sort_unstable();
            prop_assert_eq!(once, (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_seed_names_its_order_for_ever() {
        let mut items: Vec<u32> = (0..8).collect();
        shuffle(&mut items, 1);
        let first = items.clone();
        items.sort_unstable();
        shuffle(&mut items, 2);
        assert_ne!(first, items);
        let mut state = 0;
        assert_eq!(split_mix(&mut state), 0xe220_a839_7b1d_cdaf);
    }
}
