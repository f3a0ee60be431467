//! Screens and keyboards of machines with kernels of their own.

use super::{SOON, up};
use std::fs::File;
use std::io::{Read as _, Write as _};
use testbed::bed::{CONSOLE, Ending};
use testbed::machine::Chord;
use testbed::{Bed, FaultKind, Machine, spec};

/// A picture: its width, and red, green and blue of each pixel.
#[derive(PartialEq, Eq)]
pub(crate) struct Picture {
    width: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads a PNG of eight bits for each of three colours, not interlaced (RFC 2083).
    pub(crate) fn decode(png: &[u8]) -> Picture {
        let (signature, mut rest) = png.split_at(8);
        assert_eq!(signature, b"\x89PNG\r\n\x1a\n");
        let (mut width, mut data) = (0, Vec::new());
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let (name, body) = (&rest[4..8], &rest[8..8 + length]);
            match name {
                b"IHDR" => {
                    assert_eq!(body[8..13], [8, 2, 0, 0, 0]);
                    width = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
                }
                b"IDAT" => data.extend_from_slice(body),
                _ => {}
            }
            rest = &rest[12 + length..];
        }
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(data.as_slice()).read_to_end(&mut bytes).unwrap();
        let mut above = vec![0; width * 3];
        let mut pixels = Vec::new();
        for line in bytes.chunks(1 + width * 3) {
            let (filter, line) = (line[0], &line[1..]);
            let mut now: Vec<u8> = Vec::with_capacity(line.len());
            for (at, byte) in line.iter().enumerate() {
                let left = at.checked_sub(3).map_or(0, |at| now[at]);
                let (up, corner) = (above[at], at.checked_sub(3).map_or(0, |at| above[at]));
                let predicted = match filter {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                    4 => paeth(left, up, corner),
                    other => panic!("filter {other}"),
                };
                now.push(byte.wrapping_add(predicted));
            }
            pixels.extend(now.as_chunks().0);
            above = now;
        }
        Picture { width, pixels }
    }

    /// How many pixels have this colour, of a thousand.
    pub(crate) fn share(&self, colour: [u8; 3]) -> usize {
        self.pixels.iter().filter(|pixel| **pixel == colour).count() * 1000 / self.pixels.len()
    }
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let near = i16::from(left) + i16::from(up) - i16::from(corner);
    let away = |byte: u8| (near - i16::from(byte)).abs();
    if away(left) <= away(up) && away(left) <= away(corner) {
        left
    } else if away(up) <= away(corner) {
        up
    } else {
        corner
    }
}

const BLUE: [u8; 3] = [0, 0, 0xa8];
const RED: [u8; 3] = [0xa8, 0, 0];

/// Fills the screen with a colour (console_codes(4)) and writes a word on it, without a cursor, which would blink.
fn paint(vm: &Machine, colour: u8, word: &str) {
    vm.succeed(&format!(r"printf '\033[?25l\033[{colour}m\033[2J\033[H{word}' > /dev/tty1")).unwrap();
}

fn seen(vm: &Machine) -> Picture {
    Picture::decode(&vm.screenshot().unwrap())
}

#[test]
fn a_picture_is_what_the_machine_shows_wherever_it_goes_on() {
    let bed = up("screen");
    let vm = &bed["vm"];
    assert_eq!(bed.spec().machine("vm").unwrap().kernel(), spec::Kernel::Own);
    let begun = seen(vm);
    assert_eq!((begun.width, begun.pixels.len()), (720, 720 * 400));
    paint(vm, 44, "blue");
    let blue = seen(vm);
    assert!((980..1000).contains(&blue.share(BLUE)), "{}", blue.share(BLUE));
    paint(vm, 44, "other");
    let other = seen(vm);
    assert!(other.share(BLUE) > 980 && other != blue, "what is written is seen");

    bed.snapshot("then", &[]).unwrap();
    paint(vm, 41, "red");
    assert!(seen(vm).share(RED) > 980);
    vm.pause().unwrap();
    assert!(seen(vm).share(RED) > 980, "a machine that is paused shows what it did");
    vm.resume().unwrap();
    let fork = bed.fork(None).unwrap();
    assert!(seen(&fork["vm"]).share(RED) > 980);
    drop(fork);
    bed.rollback("then", &[]).unwrap();
    assert!(seen(vm) == other, "it is as it was when the snapshot was taken");
    vm.succeed("printf more > /dev/tty1").unwrap();
    assert!(seen(vm) != other);

    bed.restart("vm", Ending::Hard).unwrap();
    assert!(seen(vm).share(BLUE) == 0, "it has started anew");
    paint(vm, 44, "blue");
    assert!(seen(vm) == blue);
    can_be_seen_live(vm);
    tells_a_panic(&bed);
    for fault in [vm.screenshot().unwrap_err(), vm.type_text("x").unwrap_err(), vm.view().unwrap_err()] {
        assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::State, Some("vm")), "{fault}");
    }
}

/// Two viewers at once, each with the handshake of RFC 6143, section 7.
fn can_be_seen_live(vm: &Machine) {
    for viewer in [vm.view().unwrap(), vm.view().unwrap()].map(File::from) {
        let exactly = |length| {
            let mut bytes = vec![0; length];
            (&viewer).read_exact(&mut bytes).map(|()| bytes)
        };
        assert_eq!(exactly(12).unwrap(), b"RFB 003.008\n");
        (&viewer).write_all(b"RFB 003.008\n").unwrap();
        assert_eq!(exactly(2).unwrap(), [1, 1], "it asks for no password");
        (&viewer).write_all(&[1]).unwrap();
        assert_eq!(exactly(4).unwrap(), [0; 4]);
        (&viewer).write_all(&[1]).unwrap();
        let begin = exactly(24).unwrap();
        assert_eq!(begin[..4], [720_u16.to_be_bytes(), 400_u16.to_be_bytes()].concat());
        assert_eq!(exactly(usize::from(begin[23])).unwrap(), b"QEMU");
        // The whole screen, as it is now: a rectangle, raw, in the server's own four bytes for each pixel.
        let request = [&[3, 0][..], &[0; 4], &720_u16.to_be_bytes(), &400_u16.to_be_bytes()].concat();
        (&viewer).write_all(&request).unwrap();
        let head = exactly(16).unwrap();
        assert_eq!((head[0], &head[12..]), (0, &[0; 4][..]));
        let number = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
        let pixels = exactly(number(8) * number(10) * 4).unwrap();
        let blue = pixels.as_chunks::<4>().0.iter().filter(|pixel| **pixel == [0xa8, 0, 0, 0]);
        assert!(blue.count() * 4 * 10 > pixels.len() * 9, "of {} bytes", pixels.len());
    }
}

fn tells_a_panic(bed: &Bed) {
    let vm = &bed["vm"];
    let fault = vm.shell("echo c > /proc/sysrq-trigger").output().unwrap_err();
    assert_eq!(fault.operation, "go on: its kernel has ended");
    assert!(fault.log.as_deref().is_some_and(|log| log.contains("sysrq")), "{:?}", fault.log);
    assert!(bed.service_log("vm", CONSOLE).unwrap().tail(4096).contains("Kernel panic"));
    vm.wait_ended(SOON).unwrap();
}

#[test]
fn what_is_typed_is_read_by_the_program_on_the_screen() {
    let bed = up("screen");
    let vm = &bed["vm"];
    let text = r##"Hello, World! 0123 `~@#$%^&*()-_=+[{]}\|;:'",<.>/?"##;
    let (mut read, pipes) = vm.shell("exec head -n 1 < /dev/tty1").spawn().unwrap();
    eventually_reads(vm);
    vm.type_text(text).unwrap();
    vm.press(&Chord::parse("ret").unwrap()).unwrap();
    assert!(read.wait(Some(SOON)).unwrap().0.success());
    let mut heard = String::new();
    File::from(pipes.stdout.unwrap()).read_to_string(&mut heard).unwrap();
    assert_eq!(heard, format!("{text}\n"));

    // One that has never been open is not there to be switched to.
    assert_eq!(vm.succeed("echo > /dev/tty2; cat /sys/class/tty/tty0/active").unwrap(), "tty1\n");
    vm.press(&Chord::parse("ctrl-alt-f2").unwrap()).unwrap();
    vm.succeed("until grep -q tty2 /sys/class/tty/tty0/active; do sleep 0.05; done").unwrap();

    assert_eq!(vm.type_text("naïve").unwrap_err().kind, FaultKind::Invalid);
    vm.pause().unwrap();
    assert_eq!(vm.type_text("x").unwrap_err().kind, FaultKind::State);
    vm.resume().unwrap();
}

/// Waits until somebody has the terminal open, whose opening would forget what was typed before.
fn eventually_reads(vm: &Machine) {
    vm.succeed("until ls -l /proc/*/fd/0 2>/dev/null | grep -q /dev/tty1; do sleep 0.05; done").unwrap();
}

#[test]
fn what_has_no_screen_says_how_to_get_one() {
    let bed = up("alone");
    let (testbed, problems) = spec::check("[machines.m]", "testbed.toml", &spec::FixedFiles::new("/"));
    let shared = testbed.unwrap_or_else(|| panic!("{problems}")).up().unwrap();
    for machine in [&bed["vm"], &shared["m"]] {
        for fault in [
            machine.screenshot().unwrap_err(),
            machine.type_text("x").unwrap_err(),
            machine.view().unwrap_err(),
        ] {
            assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
            assert_eq!(fault.machine.as_deref(), Some(machine.name()));
            assert!(fault.hint.as_deref().is_some_and(|hint| hint.contains("`screen = true`")), "{fault:?}");
        }
    }
}
