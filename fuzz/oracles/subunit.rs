//! What must hold of a stream of results.

use testbed_subunit::folder::{Folder, Piece};
use testbed_subunit::stream::{Code, Filter, Prefix, Rules};
use testbed_subunit::v2::{self, Decoder, Forwarder, Item, Packet};
use testbed_subunit::{Event, EventError, Records, Sink, Summary, csv, github, json, junit, tap};

/// Its items are the stream, packets are written as they were read and forwarded as if they were written anew, a filter
/// loses nothing that it keeps, and reports can be made of it.
pub(crate) fn check(cut: u8, bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    let mut reports = Reports::default();
    for piece in bytes.chunks(usize::from(cut) + 1) {
        decoder.push(piece);
        while let Some(item) = decoder.next_item() {
            reports.take(&item, &mut seen);
        }
    }
    decoder.end();
    while let Some(item) = decoder.next_item() {
        reports.take(&item, &mut seen);
    }
    assert_eq!(seen, bytes, "items are not the stream");
    reports.finish();
}

/// A packet goes through a multiplexer and back.
fn forward(packet: &Packet<'_>) {
    let code = Code::new("7/8").expect("a code is one");
    let mut expected = Prefix::new(code.clone(), Vec::new());
    expected.event(packet.event).expect("a vector takes all");
    let expected = expected.into_inner();
    let mut forwarder = Forwarder::new();
    let bytes = match forwarder.prefix(packet, &code) {
        Ok(pieces) => pieces.slices().concat(),
        Err(error) => {
            assert!(matches!(error, EventError::TooLong { .. }) && expected.len() > 1, "{error}");
            return;
        }
    };
    let Some(Item::Packet(forwarded)) = v2::Items::new(&bytes).next() else { panic!("no packet") };
    assert_eq!(forwarded.event, expected[0].as_ref(), "forwarded and encoded differ");
    let back = forwarder.strip(&forwarded, &code).expect("it leads there").expect("it is shorter");
    let back = back.slices().concat();
    let Some(Item::Packet(back)) = v2::Items::new(&back).next() else { panic!("no packet") };
    assert_eq!(back.event, packet.event, "forwarded and back it differs");
}

/// A file of a folder stands in it.
fn leads_nowhere_else(piece: Piece<'_>) {
    let mut names = piece.path.split('/');
    assert!(names.all(|name| !matches!(name, "" | "." | "..")), "{}", piece.path);
}

#[derive(Default)]
struct Reports {
    records: Records,
    summary: Summary,
    lines: Vec<u8>,
    folder: Folder,
    ended: Vec<testbed_subunit::Record>,
    events: Vec<Event>,
}

impl Reports {
    fn take(&mut self, item: &Item<'_>, seen: &mut Vec<u8>) {
        seen.extend_from_slice(item.bytes());
        if let Item::Packet(packet) = *item {
            let mut again = Vec::new();
            v2::encode(&packet.event, &mut again);
            let event = v2::Items::new(&again).next();
            assert!(
                matches!(event, Some(Item::Packet(p)) if p.event == packet.event),
                "written and read differ"
            );
            forward(&packet);
        }
        let told = item.events("noise", |event| {
            json::line(&event, &mut self.lines);
            self.folder.event(event, leads_nowhere_else);
            self.events.push(event.to_owned());
            if let Some(record) = self.records.event(event) {
                self.summary.add(&record);
                self.ended.push(record);
            }
        });
        assert!(told.is_ok(), "the name is a name");
    }

    fn finish(mut self) {
        self.folder.finish(leads_nowhere_else);
        // A rule that keeps all, but only when a test has ended.
        let mut filter = Filter::new(Rules::new().tests(|_| true), Vec::new());
        self.events.iter().for_each(|event| filter.event(event.as_ref()).expect("a vector takes all"));
        filter.finish().expect("a vector takes all");
        let (mut kept, mut records) = (filter.into_inner(), Records::default());
        let ended: Vec<_> = kept.iter().filter_map(|event| records.event(event.as_ref())).collect();
        assert_eq!(ended, self.ended, "a filter that keeps all does not");
        let rest = self.records.finish();
        assert_eq!(records.finish(), rest, "a filter that keeps all does not");
        kept.retain(|event| self.events.contains(event));
        assert_eq!(kept.len(), self.events.len(), "a filter invents events");
        self.summary.add_rest(&rest);
        let mut xml = junit::Writer::new(Vec::new(), "fuzz");
        let mut plain = tap::Writer::new(Vec::new()).expect("a vector takes all");
        let mut table = csv::Writer::new(Vec::new()).expect("a vector takes all");
        let mut commands = github::Writer::new(Vec::new());
        for record in self.ended.iter().chain(&rest.unfinished) {
            xml.add(record);
            plain.add(record).expect("a vector takes all");
            table.add(record).expect("a vector takes all");
            commands.add(record).expect("a vector takes all");
        }
        let xml = xml.finish().expect("a vector takes all");
        assert!(std::str::from_utf8(&xml).is_ok());
        plain.finish().expect("a vector takes all");
        assert!(self.lines.is_empty() || self.lines.ends_with(b"\n"));
    }
}
