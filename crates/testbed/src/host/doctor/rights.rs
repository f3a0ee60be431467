//! Who this user is, and which ids machines of this user can have.

use super::{Finding, Need, Prober};
use crate::engine::Engine;
use crate::host::ranges::{PROGRAMS, Ranges};
use crate::host::{own_account, taken_ids};
use testbed_agent::Fault;
use testbed_agent::launch::{IDS, Ids};

const AREA: &str = "user";
/// Where useradd(8) begins to give ranges to users.
const FIRST: u64 = 100_000;

pub(super) fn examine(prober: &Prober) -> Finding {
    if let Ids::Range(first) = prober.ids {
        let fact = format!("root; machines get the ids {first} to {}", first + (IDS - 1));
        return Finding::good(AREA, "ids", fact);
    }
    let ranges = Ranges::of_this_user();
    let attempt = ranges.count().map(|_| Engine::over_files().map(drop));
    let uid = rustix::process::getuid().as_raw();
    let name = own_account().and_then(|fields| fields.into_iter().next());
    ordinary(uid, name.as_deref(), &ranges, attempt, &taken_ids().unwrap_or_default())
}

/// What ranges mean for an ordinary user, and what is missing of them. `attempt` is there if something could be tried.
fn ordinary(
    uid: u32,
    name: Option<&str>,
    ranges: &Ranges,
    attempt: Option<Result<(), Fault>>,
    taken: &[(u64, u64)],
) -> Finding {
    let who = format!("the ordinary user {}", name.map_or_else(|| uid.to_string(), str::to_owned));
    let effect =
        "services that change their user fail, and packages with files of other owners cannot be installed";
    let line = |missing: &[&str]| {
        let (name, first) = (name.unwrap_or("NAME"), free(taken));
        format!("as root, add the line `{name}:{first}:{IDS}` to {}", missing.join(" and "))
    };
    let lack = |fact: String| Finding::lacking(AREA, "ids", Need::Some, fact, effect);
    match attempt {
        Some(Ok(())) => match ranges.count().unwrap_or(1) {
            IDS => Finding::good(AREA, "ids", format!("{who}, who is root in machines, and {} more", IDS - 1)),
            few => lack(format!("{who}, who is root in machines, and {} more", few - 1))
                .remedy(line(&["/etc/subuid", "/etc/subgid"])),
        },
        Some(Err(fault)) => lack(format!("{who}, who is root in machines, and nobody else: {fault}")).remedy(
            "see that /etc/subuid and /etc/subgid give ids that this host has (not so in a container without them), and \
             that newuidmap and newgidmap may do what they are for (setuid, no_new_privs)",
        ),
        None => {
            let files = [("/etc/subuid", &ranges.users), ("/etc/subgid", &ranges.groups)];
            let files: Vec<&str> = files.into_iter().filter(|(_, all)| all.is_empty()).map(|(f, _)| f).collect();
            let programs = PROGRAMS.iter().zip(&ranges.programs).filter(|(_, found)| found.is_none());
            let programs: Vec<&str> = programs.map(|(program, _)| *program).collect();
            let mut remedies = Vec::new();
            let mut facts = Vec::new();
            if name.is_none() {
                facts.push("no name in /etc/passwd".to_owned());
                remedies.push("give this user a line in /etc/passwd: newuidmap asks for it".to_owned());
            } else if !files.is_empty() {
                facts.push(format!("no range of ids in {}", files.join(" and ")));
                remedies.push(line(&files));
            }
            if name.is_some() && !programs.is_empty() {
                facts.push(format!("no {} that may map ids", programs.join(" and ")));
                remedies.push(
                    "install newuidmap and newgidmap (Debian and Ubuntu: the package `uidmap`; elsewhere `shadow` or \
                     `shadow-utils`)"
                        .to_owned(),
                );
            }
            let fact = format!("{who}, who is root in machines, and nobody else: {}", facts.join("; "));
            lack(fact).remedy(remedies.join("; "))
        }
    }
}

/// The first range that nobody has.
fn free(taken: &[(u64, u64)]) -> u64 {
    let size = u64::from(IDS);
    let mut first = FIRST;
    while let Some((_, end)) = taken.iter().find(|(start, end)| first < *end && *start < first + size) {
        first = *end;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::State;
    use testbed_agent::FaultKind;

    fn ranges(users: &[(u32, u32)], groups: &[(u32, u32)], programs: bool) -> Ranges {
        let program = |name: &str| programs.then(|| name.into());
        Ranges { users: users.into(), groups: groups.into(), programs: PROGRAMS.map(program) }
    }

    #[test]
    fn what_is_missing_is_told_with_the_way_out() {
        let all = [(100_000, IDS)];
        let taken = [(100_000, 165_536), (165_536, 165_540)];
        let ask = |ranges: Ranges, attempt| {
            let found = ordinary(1000, Some("eve"), &ranges, attempt, &taken);
            (found.state, found.fact, found.remedy.unwrap_or_default())
        };
        let (state, fact, remedy) = ask(ranges(&[], &all, false), None);
        assert_eq!(state, State::Lacking);
        assert!(fact.contains("no range of ids in /etc/subuid; no newuidmap and newgidmap"), "{fact}");
        assert!(remedy.contains("the line `eve:165540:65536` to /etc/subuid; install"), "{remedy}");
        assert!(remedy.contains("uidmap"), "{remedy}");
        let (_, _, remedy) = ask(ranges(&[], &[], true), None);
        assert!(remedy.ends_with("to /etc/subuid and /etc/subgid"), "{remedy}");
        let refused = Err(Fault::new(FaultKind::System, "map ids: newuidmap: no"));
        let (state, fact, remedy) = ask(ranges(&all, &all, true), Some(refused));
        assert_eq!(state, State::Lacking);
        assert!(fact.contains("newuidmap: no") && remedy.contains("no_new_privs"), "{fact} {remedy}");
        assert_eq!(ask(ranges(&all, &all, true), Some(Ok(()))).0, State::Good);
        let (state, fact, _) = ask(ranges(&all, &[(5, 10)], true), Some(Ok(())));
        assert!(state == State::Lacking && fact.ends_with("and 10 more"), "{fact}");
        let nobody = ordinary(7, None, &ranges(&[], &[], false), None, &taken);
        assert!(nobody.remedy.unwrap().contains("/etc/passwd"));
    }
}
