//! What the fuzz targets check, for inputs that are always the same: pieces of their seeds, damaged. A hundred thousand
//! each, or as many as `TESTBED_INPUTS` says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../../../fuzz/oracles/reader.rs"]
mod reader;
#[path = "../../../fuzz/oracles/subunit.rs"]
mod subunit;
#[path = "../../../fuzz/oracles/v1.rs"]
mod v1;

use testbed_subunit::read::Format;

/// Bytes of an input: long enough for what belongs together.
const LONGEST: usize = 320;

/// Numbers that are always the same (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(24) + 1)
    }
}

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Lines of a seed, from any of them on.
fn piece(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let from = numbers.below(seed.len());
    let start = seed[..from].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    seed[start..].iter().take(LONGEST).copied().collect()
}

fn damage(input: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    const SIGNS: &[u8] = b"\n\r\t 0159-+#:[]{}\"'<>/&;\\\0\xb3\x2b\x80\xff";
    let at = numbers.below(input.len() + 1);
    match numbers.below(6) {
        0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
        1 if at < input.len() => input[at] = SIGNS[numbers.below(SIGNS.len())],
        2 => input.insert(at, SIGNS[numbers.below(SIGNS.len())]),
        3 => drop(input.drain(numbers.range(input.len()))),
        4 => {
            let again = input[numbers.range(input.len())].to_vec();
            drop(input.splice(at..at, again));
        }
        _ => {
            let other = &seeds[numbers.below(seeds.len())];
            let some = other[numbers.range(other.len())].to_vec();
            drop(input.splice(at..at, some));
        }
    }
}

fn for_each_input(target: &str, check: impl Fn(u8, &[u8])) {
    let seeds = seeds(target);
    let mut numbers = Numbers(0x7e57_bed5);
    let inputs = std::env::var("TESTBED_INPUTS").map_or(100_000, |inputs| inputs.parse().unwrap());
    for number in 0..inputs {
        let seed = &seeds[numbers.below(seeds.len())];
        let mut input = piece(seed, &mut numbers);
        for _ in 0..=numbers.below(6) {
            damage(&mut input, &seeds, &mut numbers);
        }
        let cut = numbers.below(256) as u8;
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(cut, &input)));
        assert!(checked.is_ok(), "input {number}, cut {cut}: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn of_subunit() {
    for_each_input("subunit", subunit::check);
}

#[test]
fn of_version_1() {
    for_each_input("v1", v1::check);
}

#[test]
fn of_tap() {
    for_each_input("tap", |cut, bytes| reader::check(Format::Tap, cut, bytes));
}

#[test]
fn of_junit() {
    for_each_input("junit", |cut, bytes| reader::check(Format::Junit, cut, bytes));
}

#[test]
fn of_go() {
    for_each_input("gotest", |cut, bytes| reader::check(Format::GoTest, cut, bytes));
}

#[test]
fn of_libtest() {
    for_each_input("libtest", |cut, bytes| reader::check(Format::Libtest, cut, bytes));
}

#[test]
fn of_pytest() {
    for_each_input("pytest", |cut, bytes| reader::check(Format::Pytest, cut, bytes));
}
