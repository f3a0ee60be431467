//! What must hold of every reader of another format.

use testbed_subunit::read::Format;
use testbed_subunit::v2::{self, Item, Items};
use testbed_subunit::{Event, EventRef};

/// Reads `bytes` whole and cut: the events must be the same, and be read again as they are written.
pub(crate) fn check(format: Format, cut: u8, bytes: &[u8]) {
    let whole = events(format, bytes, bytes.len());
    assert_eq!(events(format, bytes, usize::from(cut) + 1), whole, "events depend on how bytes are cut");
    let mut packet = Vec::new();
    for event in &whole {
        packet.clear();
        v2::encode(&event.as_ref(), &mut packet);
        let again = Items::new(&packet).next();
        assert!(matches!(again, Some(Item::Packet(packet)) if packet.event == event.as_ref()));
    }
}

fn events(format: Format, bytes: &[u8], size: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    let mut each = |event: EventRef<'_>| seen.push(event.to_owned());
    let mut reader = format.reader();
    bytes.chunks(size.max(1)).for_each(|piece| reader.feed(piece, &mut each));
    reader.finish(&mut each);
    seen
}
