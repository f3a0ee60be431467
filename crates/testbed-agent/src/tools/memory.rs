//! What a process has changed of a file that it has mapped privately (mmap(2), `MAP_PRIVATE`), or has for itself alone, kept
//! and put back.
//!
//! The kernel tells which pages of the mapping are the process's own (`Documentation/admin-guide/mm/pagemap.rst`): those
//! alone are read and written, through `/proc/PID/mem`. Kept they are a file with holes, each page at its place.

use super::Doing;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use testbed_agent::agent::{Mapping, Report};
use testbed_agent::{Fault, FaultKind};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;
/// Entries of the page map that are read at once.
const ENTRIES: usize = 16 * 1024;

/// Bits of an entry: the page is there, in memory or in swap; it belongs to a file, or to memory that is shared.
const PRESENT: u64 = 1 << 63 | 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// Keeps what a process has for itself of a part of its memory, or all of that if it is of a file.
pub(super) fn save(pid: u32, part: &Mapping, to: &str, is_whole: bool) -> Result<Report, Fault> {
    let whole = find(pid, part)?;
    let memory = open(pid, "mem", false)?;
    let pages = open(pid, "pagemap", false)?;
    let kept = File::create(to).doing_to("make", to)?;
    kept.set_len(whole.end - whole.start).doing_to("write", to)?;
    let page = testbed_sys::process::page_size();
    let own = own_pages(&pages, &whole, page)?;
    let (mut buffer, mut moved) = (vec![0; PIECE], 0);
    if let (Mapping::File(mapped), true) = (part, is_whole) {
        let file = File::open(mapped).doing_to("open", mapped)?;
        for data in data_of(&file, whole.end - whole.start).doing_to("read", mapped)? {
            let within = whole.start + data.start..whole.start + data.end;
            for rest in without(within, &own) {
                let at = rest.start - whole.start;
                moved += copy(&file, at, &kept, at, rest.end - rest.start, &mut buffer)?;
            }
        }
    }
    for range in own {
        let at = range.start - whole.start;
        moved += copy(&memory, range.start, &kept, at, range.end - range.start, &mut buffer)?;
    }
    Ok(Report::Bytes(moved))
}

/// The parts of a file that are no holes.
fn data_of(file: &File, length: u64) -> rustix::io::Result<Vec<Range<u64>>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < length {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            begin => begin?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
        found.push(begin..at);
    }
    Ok(found)
}

/// What is left of a range without these, which are in order.
fn without(range: Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut left, mut at) = (Vec::new(), range.start);
    let first = others.partition_point(|other| other.end <= range.start);
    for other in others[first..].iter().take_while(|other| other.start < range.end) {
        if other.start > at {
            left.push(at..other.start);
        }
        at = other.end;
    }
    if at < range.end {
        left.push(at..range.end);
    }
    left
}

/// Puts back what was kept.
pub(super) fn load(pid: u32, part: &Mapping, from: &str) -> Result<Report, Fault> {
    let whole = find(pid, part)?;
    let memory = open(pid, "mem", true)?;
    let kept = File::open(from).doing_to("open", from)?;
    let length = kept.metadata().doing_to("read", from)?.len();
    if length != whole.end - whole.start {
        return Err(Fault::new(FaultKind::State, "put memory back of another size").at(from));
    }
    let (mut buffer, mut moved) = (vec![0; PIECE], 0);
    for data in data_of(&kept, length).doing_to("read", from)? {
        let (at, there) = (data.start, whole.start + data.start);
        moved += copy(&kept, at, &memory, there, data.end - data.start, &mut buffer)?;
    }
    Ok(Report::Bytes(moved))
}

/// Keeps those pages of one file that differ from those of another.
pub(super) fn compare(memory: &str, mapped: &str, to: &str) -> Result<Report, Fault> {
    let (memory, mapped) =
        (File::open(memory).doing_to("open", memory)?, File::open(mapped).doing_to("open", mapped)?);
    let kept = File::create(to).doing_to("make", to)?;
    let length = memory.metadata().doing_to("read", to)?.len();
    kept.set_len(length).doing_to("write", to)?;
    let page = testbed_sys::process::page_size() as usize;
    let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut at, mut moved) = (0, 0);
    while at < length {
        let piece = PIECE.min((length - at) as usize);
        memory.read_exact_at(&mut ours[..piece], at).doing("read memory")?;
        mapped.read_exact_at(&mut theirs[..piece], at).doing("read memory")?;
        for (ours, (theirs, start)) in
            ours[..piece].chunks(page).zip(theirs.chunks(page).zip((at..).step_by(page)))
        {
            if ours != theirs {
                kept.write_all_at(ours, start).doing_to("write", to)?;
                moved += ours.len() as u64;
            }
        }
        at += piece as u64;
    }
    Ok(Report::Bytes(moved))
}

/// Where the process has a part of its memory; a file must be mapped whole and writable.
fn find(pid: u32, part: &Mapping) -> Result<Range<u64>, Fault> {
    let mapped = match part {
        Mapping::File(mapped) => mapped,
        Mapping::Range { start, length } => {
            let end = start
                .checked_add(*length)
                .filter(|_| start.is_multiple_of(testbed_sys::process::page_size()));
            let broken = || Fault::new(FaultKind::Invalid, "find memory at such a place");
            return end.map(|end| *start..end).ok_or_else(broken);
        }
    };
    let maps = BufReader::new(open(pid, "maps", false)?);
    for line in maps.lines() {
        let line = line.doing("read what a process has mapped")?;
        let range = parse(&line, mapped);
        if let Some(range) = range {
            return Ok(range);
        }
    }
    Err(Fault::new(FaultKind::NotFound, "find the memory of a process that is mapped from").at(mapped))
}

/// A line of `/proc/PID/maps` (proc_pid_maps(5)) that is about a private, writable mapping of a file.
fn parse(line: &str, mapped: &str) -> Option<Range<u64>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let path = words.nth(3)?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    (rights == "rw-p" && path == mapped).then_some(number(start)?..number(end)?)
}

/// The pages of a range that are the process's own, one behind the other in one.
fn own_pages(pages: &File, whole: &Range<u64>, page: u64) -> Result<Vec<Range<u64>>, Fault> {
    let (first, last) = (whole.start / page, whole.end / page);
    let mut bytes = vec![0; ENTRIES * size_of::<u64>()];
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut number = first;
    while number < last {
        let count = (last - number).min(ENTRIES as u64);
        let bytes = &mut bytes[..count as usize * size_of::<u64>()];
        pages.read_exact_at(bytes, number * size_of::<u64>() as u64).doing("read a map of pages")?;
        for (entry, number) in bytes.as_chunks().0.iter().zip(number..) {
            let entry = u64::from_ne_bytes(*entry);
            if entry & PRESENT == 0 || entry & OF_A_FILE != 0 {
                continue;
            }
            let range = number * page..(number + 1) * page;
            match found.last_mut() {
                Some(before) if before.end == range.start => before.end = range.end,
                _ => found.push(range),
            }
        }
        number += count;
    }
    Ok(found)
}

fn copy(from: &File, at: u64, to: &File, there: u64, length: u64, buffer: &mut [u8]) -> Result<u64, Fault> {
    let mut moved = 0;
    while moved < length {
        let piece = buffer.len().min((length - moved) as usize);
        from.read_exact_at(&mut buffer[..piece], at + moved).doing("read memory")?;
        to.write_all_at(&buffer[..piece], there + moved).doing("write memory")?;
        moved += piece as u64;
    }
    Ok(moved)
}

fn open(pid: u32, what: &str, writable: bool) -> Result<File, Fault> {
    let path = format!("/proc/{pid}/{what}");
    File::options().read(true).write(writable).open(&path).doing_to("open", path)
}

#[cfg(test)]
mod tests {
    use super::super::harness;
    use super::*;

    #[test]
    fn pages_that_differ_are_kept_at_their_places() {
        let folder = harness::folder();
        let page = testbed_sys::process::page_size() as usize;
        let [memory, mapped, kept] = ["memory", "mapped", "kept"].map(|name| folder.path(name));
        // More than one piece; a page of zeros that was none before is one that differs.
        let mut before = vec![7_u8; PIECE + 4 * page];
        std::fs::write(&mapped, &before).unwrap();
        let changed = [1, PIECE / page + 2];
        before[page..2 * page].fill(0);
        before[PIECE + 2 * page + 5] = 9;
        std::fs::write(&memory, &before).unwrap();
        assert_eq!(compare(&memory, &mapped, &kept).unwrap(), Report::Bytes(2 * page as u64));
        let bytes = std::fs::read(&kept).unwrap();
        assert_eq!(bytes.len(), before.len());
        for (number, (kept, now)) in bytes.chunks(page).zip(before.chunks(page)).enumerate() {
            let expected = if changed.contains(&number) { now.to_vec() } else { vec![0; page] };
            assert!(kept == expected, "page {number}");
        }
        let file = File::open(&kept).unwrap();
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(0)).unwrap(), page as u64);
    }

    #[test]
    fn what_is_left_of_a_range() {
        let others = [2..4, 6..8, 8..9, 20..30];
        let left = |range| without(range, &others).into_iter().map(|r| (r.start, r.end)).collect::<Vec<_>>();
        assert_eq!(left(0..10), [(0, 2), (4, 6), (9, 10)]);
        assert_eq!(left(3..7), [(4, 6)]);
        assert_eq!(left(6..9), []);
        assert_eq!(left(10..20), [(10, 20)]);
        assert_eq!(left(25..40), [(30, 40)]);
    }

    #[test]
    fn only_private_writable_mappings_of_the_file_count() {
        let line = "7f4a27fff000-7f4a37fff000 rw-p 00000000 00:2c 14                         /lib/ram";
        assert_eq!(parse(line, "/lib/ram"), Some(0x7f4a_27ff_f000..0x7f4a_37ff_f000));
        assert_eq!(parse(line, "/lib/ra"), None);
        assert_eq!(parse(&line.replace("rw-p", "rw-s"), "/lib/ram"), None);
        assert_eq!(parse("7f4a27fff000-7f4a37fff000 rw-p 00000000 00:00 0", "/lib/ram"), None);
        assert_eq!(parse("", ""), None);
    }
}
