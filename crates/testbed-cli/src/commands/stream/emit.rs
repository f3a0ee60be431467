use super::input::{PIECE, Source};
use super::now;
use super::output::{Out, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use std::io;
use std::path::PathBuf;
use testbed_subunit::stream::Sink;
use testbed_subunit::{Draft, EventError, Status, v2};

/// Write the events of one test, as from a script: what became of it, and a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    status: StatusWords,
    /// Attach this file; `-` is standard input, which is passed on as it comes.
    #[arg(long, value_name = "FILE")]
    attach_file: Option<PathBuf>,
    /// What the attached file is to be called: its own name, if not given, and `stdin` for `-`.
    #[arg(long, value_name = "NAME")]
    file_name: Option<String>,
    /// The MIME type of the attached file.
    #[arg(long, value_name = "TYPE")]
    mimetype: Option<String>,
    /// A tag. May be repeated.
    #[arg(long = "tag", visible_alias = "tags", value_name = "TAG")]
    tags: Vec<String>,
    /// A route code: where it came from.
    #[arg(long, value_name = "CODE")]
    route: Option<String>,
    /// It is no test that could be run by its id, but a machine, a resource or a step around tests.
    #[arg(long)]
    not_runnable: bool,
    #[command(flatten)]
    output: Output,
}

/// What became of which test: one of them, or none for a file of no test.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
struct StatusWords {
    /// The test exists.
    #[arg(long, value_name = "TEST")]
    exists: Option<String>,
    /// It has begun, or goes on.
    #[arg(long, value_name = "TEST")]
    inprogress: Option<String>,
    /// It passed.
    #[arg(long, value_name = "TEST")]
    success: Option<String>,
    /// It passed against expectation.
    #[arg(long, value_name = "TEST")]
    uxsuccess: Option<String>,
    /// It was not run.
    #[arg(long, value_name = "TEST")]
    skip: Option<String>,
    /// It failed.
    #[arg(long, value_name = "TEST")]
    fail: Option<String>,
    /// It failed as expected.
    #[arg(long, value_name = "TEST")]
    xfail: Option<String>,
}

impl StatusWords {
    fn take(self) -> Option<(String, Status)> {
        let words = [
            (self.exists, Status::Exists),
            (self.inprogress, Status::InProgress),
            (self.success, Status::Success),
            (self.uxsuccess, Status::UxSuccess),
            (self.skip, Status::Skip),
            (self.fail, Status::Fail),
            (self.xfail, Status::XFail),
        ];
        words.into_iter().find_map(|(id, status)| Some((id?, status)))
    }
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (id, status) = self.status.take().unzip();
        if id.is_none() && self.attach_file.is_none() {
            return Err(Failure::call("there is nothing to write")
                .hint("say what became of a test, as in `--success TEST`, or attach a file"));
        }
        let now = now()?;
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let draft = Draft::new()
            .id(id.as_deref())
            .runnable(id.is_some() && !self.not_runnable)
            .tags(&tags)
            .route(self.route.as_deref());
        // A listed test has no time: nothing happened to it.
        let first = if status == Some(Status::Exists) { draft } else { draft.at(now) };
        // Told before the file is read, so that a wrong call writes nothing.
        let mime = self.mimetype.as_deref();
        let wrong = |e: EventError| Failure::call(e.to_string());
        first.status(status).mime(mime).check().map_err(wrong)?;
        let name = self.file_name.as_deref();
        name.map_or(Ok(()), |name| draft.file(name, b"").check().map(drop)).map_err(wrong)?;

        let mut out = self.output.open()?;
        let mut packets = v2::Writer::new(out.clone());
        match &self.attach_file {
            None => first.status(status).send(&mut packets).map_err(|e| out.failed(e))?,
            Some(path) => {
                let source = Source::open(path)?;
                let own = || match path.file_name() {
                    Some(own) if path.as_os_str() != "-" => own.to_string_lossy().into_owned(),
                    _ => "stdin".to_owned(),
                };
                let name = name.map_or_else(own, str::to_owned);
                let drafts = Drafts { first, later: draft, status, name: &name, mime };
                attach(source, &drafts, &mut packets, &mut out)?;
            }
        }
        out.flush_out()?;
        Ok(Exit::Success)
    }
}

struct Drafts<'a> {
    first: Draft<'a>,
    later: Draft<'a>,
    status: Option<Status>,
    name: &'a str,
    mime: Option<&'a str>,
}

/// Sends the file in pieces: at once what comes from a pipe. An interim status stands on the first, a final one on the
/// last.
fn attach(
    source: Source,
    drafts: &Drafts<'_>,
    packets: &mut impl Sink<Error = io::Error>,
    out: &mut Out,
) -> Result<(), Failure> {
    let is_live = source.is_live();
    let mut reader = source.into_file();
    let (mut piece, mut draft) = (vec![0; PIECE], drafts.first);
    let (interim, last) = match drafts.status {
        Some(status) if !status.is_final() => (Some(status), None),
        status => (None, status),
    };
    draft = draft.status(interim);
    let mut is_first = true;
    loop {
        let (length, ends) = fill(&mut reader, &mut piece, is_live)
            .map_err(|e| Failure::io(format!("read {}", drafts.name), e))?;
        draft = draft.file(drafts.name, &piece[..length]).mime(drafts.mime).eof(ends);
        if ends && last.is_some() {
            draft = draft.status(last);
            if !is_first {
                draft = draft.at(now()?);
            }
        }
        is_first = false;
        draft.send(packets).map_err(|e| out.failed(e))?;
        if ends {
            return Ok(());
        }
        if is_live {
            out.flush_out()?;
        }
        draft = drafts.later;
    }
}

/// Reads the next piece, and whether it is the last. Of a file that is all of the room; of a pipe what there is.
fn fill(reader: &mut impl io::Read, piece: &mut [u8], is_live: bool) -> io::Result<(usize, bool)> {
    let mut length = 0;
    while length < piece.len() {
        match reader.read(&mut piece[length..]) {
            Ok(0) => return Ok((length, true)),
            Ok(more) => length += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if is_live {
            break;
        }
    }
    Ok((length, false))
}
