//! Readers of compressed archives. What they are is seen from their first bytes, not from their names.

use std::io::{self, BufRead, BufReader, Read};

/// A reader of what the stream holds, whatever it is compressed with: gzip, xz, zstd, or nothing.
pub(super) fn decompressed<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(128 * 1024, stream);
    // A pipe may give less at first; a file gives what there is.
    let beginning = stream.fill_buf()?;
    Ok(if beginning.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(stream))
    } else if beginning.starts_with(b"\xfd7zXZ\0") {
        Box::new(lzma_rust2::XzReader::new(stream, true))
    } else if beginning.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(beginning) {
        Box::new(Zstd { stream, frame: None })
    } else {
        Box::new(stream)
    })
}

/// A zstd frame that holds no data may stand first (RFC 8878 §3.1.2).
fn is_skippable(beginning: &[u8]) -> bool {
    matches!(beginning, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

/// The frames of a zstd stream, one after another (RFC 8878 §3.1).
struct Zstd<R> {
    stream: R,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

/// The largest window that a frame may ask memory for.
const MOST_WINDOW: u64 = 128 << 20;
/// How many bytes are decoded at a time.
const CHUNK: usize = 128 * 1024;

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; none at the end of the stream.
    fn next_frame(&mut self) -> io::Result<Option<ruzstd::decoding::FrameDecoder>> {
        loop {
            if self.stream.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let mut decoder = ruzstd::decoding::FrameDecoder::new();
            decoder.set_max_window_size(MOST_WINDOW);
            match decoder.reset(&mut self.stream) {
                Ok(()) => return Ok(Some(decoder)),
                Err(ruzstd::decoding::errors::FrameDecoderError::ReadFrameHeaderError(
                    ruzstd::decoding::errors::ReadFrameHeaderError::SkipFrame { length, .. },
                )) => {
                    let skipped = io::copy(&mut (&mut self.stream).take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.frame else {
                self.frame = self.next_frame()?;
                if self.frame.is_none() {
                    return Ok(0);
                }
                continue;
            };
            if decoder.can_collect() > 0 {
                return decoder.read(out);
            }
            if decoder.is_finished() {
                self.frame = None;
                continue;
            }
            let strategy = ruzstd::decoding::BlockDecodingStrategy::UptoBytes(CHUNK);
            decoder
                .decode_blocks(&mut self.stream, strategy)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}
