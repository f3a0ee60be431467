//! Finds packets among bytes that may be anything.
//!
//! Every signature byte is a candidate. It is refused as soon as its header cannot be one, and it is a packet only
//! when length, CRC and fields are all right. Otherwise the byte is noise and the search goes on at the next byte, so
//! that damage costs the damaged packet and nothing behind it.

use super::checksum::Checksums;
use super::header::{self, Header, Probe};
use super::{CRC_LENGTH, Corrupt, Damaged, Item, MAX_PACKET, NOISE_MAX, Packet, SIGNATURE, fields};

/// What the caller knows of the bytes behind the input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Behind {
    /// More may come. Noise is held back so that its pieces do not depend on how the bytes came in.
    #[default]
    More,
    /// More may come, and what is known to be noise is wanted now.
    Later,
    /// Nothing: this is the end.
    Nothing,
}

/// The search's place in a stream. The input of each step begins where the item of the last one ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// Bytes at the front of the input that are no packet and have not been handed out.
    run: usize,
    /// Set while those bytes are part of a damaged packet.
    damage: Option<Damage>,
    /// What stands before the input.
    before: Sync,
    /// The packet at the front of the input has been checked.
    checked: bool,
    /// Below so many bytes of input the next step can say nothing new.
    need: usize,
    /// No candidate that begins before so many bytes of the stream is waited for.
    given_up: u64,
    /// Bytes of the stream before the input.
    offset: u64,
    checksums: Checksums,
}

#[derive(Clone, Copy, Debug)]
struct Damage {
    cause: Corrupt,
    /// Bytes of the damaged packet from the front of the input on, as far as its header can be believed.
    left: usize,
    /// Its first piece has not been handed out.
    begins: bool,
}

/// How likely it is that a packet was meant to begin at some place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Sync {
    /// The start of the stream, or directly behind a packet: a signature here means one.
    #[default]
    Packet,
    /// The start of a line: it means one if the header agrees.
    Line,
    /// Within text: it is more likely part of a character.
    Text,
}

enum Verdict<'a> {
    /// All there, and its CRC is right.
    Whole { flags: u16, body: &'a [u8], bytes: &'a [u8] },
    /// Undecided before the candidate has so many bytes.
    Wait(usize),
    /// What is held back goes first, or the candidate would need more than a packet's memory.
    RunFirst,
    /// No packet. The damage, were it one, goes so far.
    Not(Corrupt, usize),
}

impl Scan {
    /// The next item at the front of `input`, to be taken off it. `None` where it takes more bytes to tell.
    #[inline(always)]
    pub(super) fn step<'a>(&mut self, input: &'a [u8], behind: Behind) -> Option<Item<'a>> {
        if self.run == 0
            && let Some(packet) = self.next_packet(input)
        {
            return Some(Item::Packet(packet));
        }
        self.search(input, behind)
    }

    /// The packet at the front of `input` where there is one, as mostly there is.
    #[inline(always)]
    fn next_packet<'a>(&mut self, input: &'a [u8]) -> Option<Packet<'a>> {
        if self.damage.is_some() || input.first() != Some(&SIGNATURE) {
            return None;
        }
        let Probe::Header(header) = header::probe(input) else { return None };
        let (bytes, _) = input.split_at_checked(header.packet)?;
        let Verdict::Whole { flags, body, .. } = self.open(header, bytes) else { return None };
        let event = fields::parse(flags, body).ok()?;
        self.before = Sync::Packet;
        self.handed_out(bytes.len());
        Some(Packet { event, bytes })
    }

    fn search<'a>(&mut self, input: &'a [u8], behind: Behind) -> Option<Item<'a>> {
        if behind == Behind::More && input.len() < self.need && !self.is_given_up() {
            return None;
        }
        self.need = 0;
        loop {
            let limit = self.damage.map_or(NOISE_MAX, |damage| damage.left);
            let window = &input[self.run..input.len().min(limit)];
            let Some(at) = find_signature(window) else {
                self.run += window.len();
                let wanted = self.run == limit || (behind != Behind::More && self.run > 0);
                return wanted.then(|| self.hand_out_run(input));
            };
            self.run += at;
            match self.judge(&input[self.run..], behind) {
                Verdict::Whole { flags, body, bytes } => match fields::parse(flags, body) {
                    Ok(_) if self.run > 0 => {
                        let item = self.hand_out_run(input);
                        self.damage = None;
                        self.checked = true;
                        return Some(item);
                    }
                    Ok(event) => {
                        self.damage = None;
                        self.before = Sync::Packet;
                        self.handed_out(bytes.len());
                        return Some(Item::Packet(Packet { event, bytes }));
                    }
                    Err(error) => {
                        if let Some(noise) = self.refuse(Corrupt::Field(error), bytes.len(), input) {
                            return Some(noise);
                        }
                    }
                },
                Verdict::RunFirst => return Some(self.hand_out_run(input)),
                Verdict::Wait(need) => {
                    if behind == Behind::Later && self.run > 0 {
                        return Some(self.hand_out_run(input));
                    }
                    self.need = self.run + need;
                    return None;
                }
                Verdict::Not(cause, extent) => {
                    if let Some(noise) = self.refuse(cause, extent, input) {
                        return Some(noise);
                    }
                }
            }
        }
    }

    /// Candidates that begin before byte `before` of the stream, and are not whole, are no packets.
    pub(super) fn give_up(&mut self, before: u64) {
        self.given_up = before;
    }

    /// Bytes of the stream that have been handed out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the candidate behind the run is no longer waited for.
    fn is_given_up(&self) -> bool {
        self.offset + (self.run as u64) < self.given_up
    }

    #[inline]
    fn judge<'a>(&mut self, candidate: &'a [u8], behind: Behind) -> Verdict<'a> {
        let (need, extent) = match header::probe(candidate) {
            Probe::Not(cause) => return Verdict::Not(cause, header::FIXED),
            Probe::Short => (candidate.len() + 1, candidate.len()),
            Probe::Header(header) if self.run > 0 && self.run + header.packet > MAX_PACKET => {
                return Verdict::RunFirst;
            }
            Probe::Header(header) => match candidate.split_at_checked(header.packet) {
                Some((bytes, _)) => return self.open(header, bytes),
                None => (header.packet, header.packet),
            },
        };
        if behind == Behind::Nothing {
            return Verdict::Not(Corrupt::Truncated { missing: need - candidate.len() }, extent);
        }
        if self.is_given_up() {
            return Verdict::Not(Corrupt::Stalled, candidate.len());
        }
        Verdict::Wait(need)
    }

    /// Sums up a candidate that is all there.
    #[inline(always)]
    fn open<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Verdict<'a> {
        let (content, stored) = bytes.split_at(bytes.len() - CRC_LENGTH);
        if !std::mem::take(&mut self.checked) {
            let stored = u32::from_be_bytes([stored[0], stored[1], stored[2], stored[3]]);
            let computed = self.checksums.of(self.offset + self.run as u64, content);
            if stored != computed {
                self.checksums.watch(self.offset + self.run as u64, content);
                return Verdict::Not(Corrupt::Checksum { stored, computed }, header.packet);
            }
        }
        Verdict::Whole { flags: header.flags, body: &content[header.header..], bytes }
    }

    /// Takes the candidate into the run, or begins a damaged packet with it.
    fn refuse<'a>(&mut self, cause: Corrupt, extent: usize, input: &'a [u8]) -> Option<Item<'a>> {
        let meant = match (self.damage, self.sync(input)) {
            (Some(_), _) | (None, Sync::Text) => false,
            (None, Sync::Line) => !cause.is_of_header(),
            (None, Sync::Packet) => true,
        };
        let noise = (meant && self.run > 0).then(|| self.hand_out_run(input));
        if meant {
            self.damage = Some(Damage { cause, left: extent, begins: true });
        }
        self.run += 1;
        noise
    }

    fn sync(&self, input: &[u8]) -> Sync {
        match self.run.checked_sub(1) {
            None => self.before,
            Some(before) if input[before] == b'\n' => Sync::Line,
            Some(_) => Sync::Text,
        }
    }

    fn hand_out_run<'a>(&mut self, input: &'a [u8]) -> Item<'a> {
        let bytes = &input[..self.run];
        self.before = if bytes.ends_with(b"\n") { Sync::Line } else { Sync::Text };
        let item = match self.damage.take() {
            None => Item::Noise(bytes),
            Some(Damage { cause, left, begins }) => {
                if bytes.len() < left {
                    self.damage = Some(Damage { cause, left: left - bytes.len(), begins: false });
                } else if !cause.is_of_header() {
                    self.before = Sync::Packet;
                }
                Item::Damaged(Damaged { cause, offset: self.offset, bytes, begins })
            }
        };
        self.handed_out(bytes.len());
        item
    }

    #[inline]
    fn handed_out(&mut self, length: usize) {
        self.run = 0;
        self.need = 0;
        self.offset += length as u64;
    }
}

/// Where the next signature is. Packets mostly follow each other, so the first byte is looked at by itself.
#[inline]
fn find_signature(bytes: &[u8]) -> Option<usize> {
    match bytes.first() {
        Some(&SIGNATURE) => Some(0),
        _ => memchr::memchr(SIGNATURE, bytes),
    }
}
