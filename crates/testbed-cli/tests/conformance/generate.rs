//! Events of every shape, the same in every run.

use testbed_subunit::{Draft, Event, Status, Timestamp, v2};

/// Numbers by xorshift (Marsaglia, "Xorshift RNGs").
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed | 1)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(crate) fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Also with characters that end in the byte that packets begin with.
    fn text(&mut self, length: usize) -> String {
        let characters = [
            'a',
            'b',
            '.',
            '/',
            ' ',
            '-',
            '0',
            '\u{f3}',
            '\u{b3}',
            '\u{433}',
            '\u{30f3}',
            '\u{2603}',
            '\u{1f600}',
            '\n',
        ];
        let mut text = String::new();
        while text.len() < length {
            text.push(*self.one(&characters));
        }
        text
    }

    /// Lengths of strings: mostly short, now and then around where a number takes one more octet.
    fn length(&mut self) -> usize {
        match self.below(40) {
            0 => 60 + self.below(8),
            1 => 0,
            _ => 1 + self.below(30),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(400) {
            0 => 16_370 + self.below(30),
            1..20 => 0,
            20..60 => 40 + self.below(40),
            _ => self.below(120),
        };
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// An event whose fields are there or not by chance. None is what the reference cannot say or would not write.
    pub(crate) fn event(&mut self) -> Event {
        let mut text = |present: usize| {
            let length = self.length();
            (self.below(present) == 0).then(|| self.text(length))
        };
        let (id, name, mime) = (text(1), text(1), text(3).filter(|mime| !mime.is_empty()));
        let id = id.filter(|_| self.below(8) != 0);
        let (file, count) = (self.below(3) == 0, self.below(4));
        let bytes = if file { self.bytes() } else { Vec::new() };
        let tags: Vec<&str> = ["w0", "slow", "\u{f3} x", ""][..count].to_vec();
        let time = self.coin().then(|| {
            let (seconds, micros) = (self.below(1 << 32) as u32, self.below(1_000_000) as u32);
            Timestamp::new(seconds, micros * 1000).unwrap()
        });
        let route = *self.one(&[None, None, None, Some("0"), Some("1/0"), Some("worker-1/12")]);
        let status = match self.below(8) {
            7 => None,
            place => Some(Status::ALL[place]),
        };
        let mut draft = Draft::new()
            .id(id.as_deref())
            .status(status)
            .at(time)
            .runnable(self.coin())
            .tags(&tags)
            .eof(self.below(4) == 0)
            .mime(mime.as_deref())
            .route(route);
        if let (true, Some(name)) = (file, &name) {
            draft = draft.file(name, &bytes);
        }
        draft.check().unwrap().to_owned()
    }
}

pub(crate) fn packet(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode(&event.as_ref(), &mut out);
    out
}
