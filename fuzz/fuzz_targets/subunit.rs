//! A stream of results: its items are the stream, packets are written as they were read, and reports can be made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed_subunit::v2::{self, Decoder, Item};
use testbed_subunit::{Records, Summary, json, junit, tap};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
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
});

#[derive(Default)]
struct Reports {
    records: Records,
    summary: Summary,
    lines: Vec<u8>,
    ended: Vec<testbed_subunit::Record>,
}

impl Reports {
    fn take(&mut self, item: &Item<'_>, seen: &mut Vec<u8>) {
        seen.extend_from_slice(item.bytes());
        if let Item::Packet(packet) = item {
            let mut again = Vec::new();
            v2::encode(&packet.event, &mut again);
            let event = v2::Items::new(&again).next();
            assert!(
                matches!(event, Some(Item::Packet(p)) if p.event == packet.event),
                "written and read differ"
            );
        }
        let told = item.events("noise", |event| {
            json::line(&event, &mut self.lines);
            if let Some(record) = self.records.event(event) {
                self.summary.add(&record);
                self.ended.push(record);
            }
        });
        assert!(told.is_ok(), "the name is a name");
    }

    fn finish(mut self) {
        let rest = self.records.finish();
        self.summary.add_rest(&rest);
        let mut xml = junit::Writer::new(Vec::new(), "fuzz");
        let mut plain = tap::Writer::new(Vec::new()).expect("a vector takes all");
        for record in self.ended.iter().chain(&rest.unfinished) {
            xml.add(record);
            plain.add(record).expect("a vector takes all");
        }
        let xml = xml.finish().expect("a vector takes all");
        assert!(std::str::from_utf8(&xml).is_ok());
        plain.finish().expect("a vector takes all");
        assert!(self.lines.is_empty() || self.lines.ends_with(b"\n"));
    }
}
