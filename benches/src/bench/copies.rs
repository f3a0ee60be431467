//! Copies one after another, without a pause, and what the rest of the host notices of it.

use super::machines::FIVE;
use super::{checked, engine, make, use_up};
use crate::calm::Times;
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
    let beside_nothing = watched_while(|| {
        std::thread::sleep(EVERY * 500);
        Ok(())
    })?;
    let (median, late) = (times.median(), times.at(0.95));
    say(&format!(
        "{rounds} copies of five       median {}  p95 {}  most {}; p95 within 2 medians: {}",
        show(median),
        show(late),
        show(times.at(1.0)),
        verdict(late <= median * 2),
    ));
    elsewhere.tell("a namespace elsewhere");
    beside_the_floor.tell("beside the floor");
    beside_nothing.tell("beside nothing");
    Ok(())
}

/// How long it took to make network namespaces.
#[derive(Default)]
struct Elsewhere {
    all: Sample,
    /// Of those, what was made while no time of a processor was stolen: this host may be a guest that has neighbours.
    undisturbed: Sample,
}

impl Elsewhere {
    fn tell(&self, beside: &str) {
        let (all, most) = (&self.all, self.all.at(1.0));
        say(&format!(
            "{beside:<22} median {}  p95 {}  most {}, {} while nothing was stolen from the host ({} of {}); never over {}: {}",
            show(all.median()),
            show(all.at(0.95)),
            show(most),
            show(self.undisturbed.at(1.0)),
            self.undisturbed.count(),
            all.count(),
            show(ELSEWHERE),
            verdict(most <= ELSEWHERE),
        ));
    }
}

/// How long it takes to make network namespaces while something else goes on.
fn watched_while(life: impl FnOnce() -> Outcome<()>) -> Outcome<Elsewhere> {
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
fn watch(done: &AtomicBool) -> Outcome<Elsewhere> {
    let mut floor = Floor::start(&["netns"])?;
    let mut elsewhere = Elsewhere::default();
    while !done.load(Ordering::Relaxed) {
        let before = Times::now()?;
        let took = floor.round()?;
        elsewhere.all.add(took);
        if Times::now()?.stolen == before.stolen {
            elsewhere.undisturbed.add(took);
        }
        std::thread::sleep(EVERY);
    }
    Ok(elsewhere)
}
