//! Copies one after another, without a pause, and what the rest of the host notices of it.

use super::machines::FIVE;
use super::{checked, engine, make, use_up};
use crate::floor::Floor;
use crate::sample::{Sample, show, verdict};
use crate::{Outcome, say};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest that a network namespace may take elsewhere.
const ELSEWHERE: Duration = Duration::from_millis(10);
/// How often one is made there.
const EVERY: Duration = Duration::from_millis(20);

pub(crate) fn copies(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let spec = checked(FIVE)?;
    let mut times = Sample::default();
    let elsewhere = watched_while(|| {
        for _ in 0..rounds {
            let begun = Instant::now();
            use_up(&make(&engine, &spec)?)?;
            times.add(begun.elapsed());
        }
        Ok(())
    })?;
    let mut floor = Floor::start(&["five"])?;
    let beside_the_floor = watched_while(|| (0..rounds).try_for_each(|_| floor.round().map(drop)))?;
    let (median, late) = (times.median(), times.at(0.95));
    say(&format!(
        "{rounds} copies of five       median {}  p95 {}  most {}; p95 within 2 medians: {}",
        show(median),
        show(late),
        show(times.at(1.0)),
        verdict(late <= median * 2),
    ));
    for (beside, elsewhere) in
        [("a namespace elsewhere  ", elsewhere), ("beside the floor       ", beside_the_floor)]
    {
        say(&format!(
            "{beside} median {}  p95 {}  most {}; never over {}: {}",
            show(elsewhere.median()),
            show(elsewhere.at(0.95)),
            show(elsewhere.at(1.0)),
            show(ELSEWHERE),
            verdict(elsewhere.at(1.0) <= ELSEWHERE),
        ));
    }
    Ok(())
}

/// How long it takes to make network namespaces while something else goes on.
fn watched_while(life: impl FnOnce() -> Outcome<()>) -> Outcome<Sample> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&done).map_err(|e| e.to_string()));
        let lived = life();
        done.store(true, Ordering::Relaxed);
        let watched = watcher.join().map_err(|_| "the watcher panicked")?;
        lived?;
        Ok(watched?)
    })
}

/// Makes network namespaces until it is done.
fn watch(done: &AtomicBool) -> Outcome<Sample> {
    let mut floor = Floor::start(&["netns"])?;
    let mut times = Sample::default();
    while !done.load(Ordering::Relaxed) {
        times.add(floor.round()?);
        std::thread::sleep(EVERY);
    }
    Ok(times)
}
