use std::collections::BTreeSet;

use super::line::{self, Directive, LINE_MAX, Outcome};
use crate::event::{self, Draft, Status, Timestamp};
use crate::read::{self, Each, emit, name};

/// Bytes of a piece of a file, and of noise: each event but the last of a file has so many.
const PIECE: usize = 64 * 1024;

/// How a line of simple details begins whose first blank only tells it from the end.
const QUOTED: &[u8] = b" ]";

/// The most bytes of tags that are in force at a time.
const TAGS_MAX: usize = 16 * 1024;

/// Makes events of a stream of version 1 that comes in pieces.
///
/// The events do not depend on how the bytes were cut. It holds a line, a piece of a file and a piece of output, each
/// of 64 KiB at most, and tags of 16 KiB at most.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Output that is held back, so that adjoining lines of it are one event.
    noise: Vec<u8>,
    /// What has come of the line at hand.
    line: Vec<u8>,
    /// The line at hand is too long to say anything.
    long: bool,
    state: State,
    /// The open test's name as it stands in the stream, and as an id.
    name: Vec<u8>,
    id: String,
    file: File,
    time: Option<Timestamp>,
    /// Tags of the stream.
    tags: Tags,
    /// Set where those of the open test differ.
    test_tags: Option<Tags>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Outside,
    InTest,
    /// Within `[` and `]`.
    Simple(Outcome),
    /// Where a part's header stands, or `]`.
    Part(Outcome),
    /// Where its name stands.
    Name(Outcome),
    /// Where a chunk's length stands.
    Length(Outcome),
    /// Within a chunk, so many bytes before its end.
    Chunk(Outcome, u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    name: String,
    mime: String,
    /// The last piece, held back because the file's end stands on it.
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Tags {
    all: BTreeSet<Box<str>>,
    bytes: usize,
}

impl Tags {
    /// Whether there was room for all that `words` add.
    fn change(&mut self, words: &str) -> bool {
        let mut all = true;
        for word in words.split_whitespace() {
            let word = &*name(word);
            // Each also takes a number for its length.
            if let Some(gone) = word.strip_prefix('-') {
                if self.all.remove(gone) {
                    self.bytes -= gone.len() + 4;
                }
            } else if self.bytes + word.len() + 4 > TAGS_MAX {
                all &= self.all.contains(word);
            } else if self.all.insert(word.into()) {
                self.bytes += word.len() + 4;
            }
        }
        all
    }
}

/// A name from outside that may stand in an event.
fn text(bytes: &[u8]) -> String {
    name(&String::from_utf8_lossy(bytes)).into_owned()
}

impl read::Reader for Reader {
    fn feed(&mut self, mut bytes: &[u8], each: &mut Each<'_>) {
        while !bytes.is_empty() {
            let taken;
            if let State::Chunk(outcome, left) = self.state {
                (taken, bytes) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                let left = left - taken.len() as u64;
                self.state = if left > 0 { State::Chunk(outcome, left) } else { State::Length(outcome) };
                self.content(taken, each);
                continue;
            }
            let end = memchr::memchr(b'\n', bytes);
            (taken, bytes) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if end.is_some() && self.line.is_empty() && !self.long && taken.len() <= LINE_MAX {
                self.whole_line(taken, each);
                continue;
            }
            self.piece_of_line(taken, each);
            if end.is_some() {
                self.end_line(each);
            }
        }
    }

    /// Gives out the output that is held back, but for a line that has no end.
    fn pause(&mut self, each: &mut Each<'_>) {
        self.put_noise(each);
    }

    /// A test that is open fails.
    fn finish(&mut self, each: &mut Each<'_>) {
        self.end_line(each);
        self.fail_open("the stream ended", each);
        self.put_noise(each);
        *self = Self::default();
    }
}

impl Reader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    fn piece_of_line(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        if !self.long && self.line.len() + bytes.len() <= LINE_MAX {
            self.line.extend_from_slice(bytes);
            return;
        }
        let begun = std::mem::take(&mut self.line);
        let mut pieces = [&begun[..], bytes];
        let simple = matches!(self.state, State::Simple(_));
        if simple && !self.long && begun.iter().chain(bytes).take(QUOTED.len()).eq(QUOTED) {
            let first = pieces.iter_mut().find(|piece| !piece.is_empty());
            first.into_iter().for_each(|piece| *piece = &piece[1..]);
        }
        self.long = true;
        for piece in pieces {
            if simple { self.content(piece, each) } else { self.noise(piece, each) }
        }
    }

    fn end_line(&mut self, each: &mut Each<'_>) {
        if std::mem::take(&mut self.long) {
            match self.state {
                State::Name(outcome) => self.state = State::Part(outcome),
                State::Length(outcome) => {
                    self.state = State::Part(outcome);
                    self.end_file(each);
                }
                _ => {}
            }
        } else if !self.line.is_empty() {
            let mut line = std::mem::take(&mut self.line);
            self.whole_line(&line, each);
            line.clear();
            self.line = line;
        }
    }

    fn whole_line(&mut self, line: &[u8], each: &mut Each<'_>) {
        let ends = line::without_end(line) == b"]";
        match self.state {
            State::Outside | State::InTest => self.directive(line, each),
            State::Simple(outcome) if ends => {
                self.end_file(each);
                self.end_test(outcome.status, each);
            }
            State::Simple(_) => self.content(unquoted(line), each),
            State::Part(outcome) if ends => self.end_test(outcome.status, each),
            State::Part(outcome) => match content_type(line) {
                Some(mime) => {
                    self.file.mime = text(mime);
                    self.state = State::Name(outcome);
                }
                // Its end got lost.
                None if matches!(line::directive(line), Some(Directive::Test { certain: true, .. })) => {
                    self.state = State::InTest;
                    self.directive(line, each);
                }
                None => self.noise(line, each),
            },
            State::Name(outcome) => {
                self.file.name = text(line::without_end(line));
                self.state = State::Length(outcome);
            }
            State::Length(outcome) => match chunk_length(line) {
                Some(0) => {
                    self.state = State::Part(outcome);
                    self.end_file(each);
                }
                Some(length) => self.state = State::Chunk(outcome, length),
                None => {
                    self.state = State::Part(outcome);
                    self.end_file(each);
                    self.whole_line(line, each);
                }
            },
            // Its bytes are no lines.
            State::Chunk(..) => {}
        }
    }

    fn directive(&mut self, line: &[u8], each: &mut Each<'_>) {
        let in_test = matches!(self.state, State::InTest);
        match line::directive(line) {
            Some(Directive::Test { name, certain }) if !in_test || certain => {
                self.fail_open("another test began", each);
                self.begin_test(name, each);
            }
            Some(Directive::Outcome { outcome, name }) if in_test => match name.strip_prefix(&*self.name) {
                Some(b"") => self.end_test(outcome.status, each),
                Some(b" [") => {
                    self.file.name = outcome.file.to_owned();
                    self.file.mime = outcome.mime.to_owned();
                    self.state = State::Simple(outcome);
                }
                Some(b" [ multipart") => self.state = State::Part(outcome),
                _ => self.noise(line, each),
            },
            Some(Directive::Tags(words)) => {
                let words = String::from_utf8_lossy(words);
                let tags = if in_test {
                    self.test_tags.get_or_insert_with(|| self.tags.clone())
                } else {
                    &mut self.tags
                };
                if !tags.change(&words) {
                    self.noise(line, each);
                }
            }
            Some(Directive::Time(time)) => {
                // What was printed before has its place before.
                self.put_noise(each);
                self.time = Some(time);
            }
            Some(Directive::Progress) => {}
            _ => self.noise(line, each),
        }
    }

    fn begin_test(&mut self, name: &[u8], each: &mut Each<'_>) {
        self.name = name.to_vec();
        self.id = text(name);
        self.test_tags = None;
        self.state = State::InTest;
        self.put_noise(each);
        emit(Draft::test(&self.id, Status::InProgress).at(self.time), each);
    }

    fn end_test(&mut self, status: Status, each: &mut Each<'_>) {
        self.state = State::Outside;
        self.put_noise(each);
        emit(Draft::test(&self.id, status).at(self.time).tags(self.tags_of_test()), each);
    }

    fn tags_of_test(&self) -> event::Tags<'_> {
        event::Tags::from(&self.test_tags.as_ref().unwrap_or(&self.tags).all)
    }

    /// The test's outcome got lost, if one is open.
    fn fail_open(&mut self, why: &str, each: &mut Each<'_>) {
        match self.state {
            State::Outside => return,
            State::Simple(_) | State::Length(_) | State::Chunk(..) => self.end_file(each),
            State::InTest | State::Part(_) | State::Name(_) => {}
        }
        self.state = State::Outside;
        self.put_noise(each);
        let error = format!("{why} before the outcome of this test was told\n");
        let failure = Draft::test(&self.id, Status::Fail).at(self.time).tags(self.tags_of_test());
        emit(failure.file("traceback", error.as_bytes()).mime(read::TEXT).eof(true), each);
    }

    /// Bytes of the open file.
    fn content(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        self.put_noise(each);
        let mut held = std::mem::take(&mut self.file.bytes);
        in_pieces(&mut held, bytes, |piece| self.put_file(piece, false, each));
        self.file.bytes = held;
    }

    fn end_file(&mut self, each: &mut Each<'_>) {
        self.put_noise(each);
        self.put_file(&self.file.bytes, true, each);
        self.file.bytes.clear();
    }

    fn put_file(&self, bytes: &[u8], eof: bool, each: &mut Each<'_>) {
        let file = Draft::new().id(&*self.id).runnable(true).at(self.time);
        emit(file.file(&self.file.name, bytes).mime(&*self.file.mime).eof(eof), each);
    }

    fn noise(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        let time = self.time;
        in_pieces(&mut self.noise, bytes, |piece| emit(Draft::output("stdout", piece).at(time), each));
    }

    fn put_noise(&mut self, each: &mut Each<'_>) {
        if !self.noise.is_empty() {
            emit(Draft::output("stdout", &self.noise).at(self.time), each);
            self.noise.clear();
        }
    }
}

/// Adds `bytes` to those that are held, and calls `put` with each piece that is full and not the last.
fn in_pieces(held: &mut Vec<u8>, mut bytes: &[u8], mut put: impl FnMut(&[u8])) {
    while held.len() + bytes.len() > PIECE {
        let (now, later) = bytes.split_at(PIECE - held.len());
        if held.is_empty() {
            put(now);
        } else {
            held.extend_from_slice(now);
            put(held);
            held.clear();
        }
        bytes = later;
    }
    held.extend_from_slice(bytes);
}

/// A line of simple details as it was before its `]` was told from the end's.
fn unquoted(line: &[u8]) -> &[u8] {
    if line.starts_with(QUOTED) { &line[1..] } else { line }
}

fn content_type(line: &[u8]) -> Option<&[u8]> {
    let (field, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
    field.eq_ignore_ascii_case(b"Content-Type").then(|| value[1..].trim_ascii())
}

fn chunk_length(line: &[u8]) -> Option<u64> {
    let digits = line::without_end(line);
    let hexadecimal = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    if !hexadecimal {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
