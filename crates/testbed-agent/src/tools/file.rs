//! Files as streams.

use super::{Doing, ToolIo, invalid};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use testbed_agent::Fault;
use testbed_agent::agent::Report;

/// Writes a file to the output.
pub(crate) fn read(path: &str, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let mut file = File::open(path).doing_to("open", path)?;
    if file.metadata().doing_to("read", path)?.is_dir() {
        return Err(invalid("read a folder as a file")
            .at(path)
            .hint("a folder travels as an archive: pack it"));
    }
    let bytes = io::copy(&mut file, &mut io.output_file()?).doing_to("read", path)?;
    Ok(Report::Bytes(bytes))
}

/// Writes the input to a file.
pub(crate) fn write(path: &str, mode: u32, append: bool, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let mut options = OpenOptions::new();
    options.write(true).append(append).truncate(!append).mode(mode);
    let mut file = match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // The mode as asked for, whatever the umask.
            file.set_permissions(Permissions::from_mode(mode & 0o7777)).doing_to("set the mode of", path)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path).doing_to("open", path)?
        }
        Err(error) => return Err(Fault::system("create", &error).at(path)),
    };
    let bytes = copy_in(&mut io.input_file()?, &mut file, append).doing_to("write", path)?;
    Ok(Report::Bytes(bytes))
}

/// Copies by splice(2) where the kernel can; it cannot into a file that is open for appending.
fn copy_in(input: &mut File, file: &mut File, append: bool) -> io::Result<u64> {
    if append {
        return io::copy(&mut io::BufReader::with_capacity(128 * 1024, &*input), file);
    }
    io::copy(input, file)
}

#[cfg(test)]
mod tests {
    use super::super::harness::{self, Streams};
    use super::*;
    use testbed_agent::FaultKind;
    use testbed_agent::agent::Tool;

    #[test]
    fn large_files_go_through_both_ways() {
        let folder = harness::folder();
        let path = folder.path("data");
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let write = Tool::Write { path: path.clone(), mode: 0o4751, append: false };
        let outcome = harness::run(&write, Streams::input(content.clone()));
        assert_eq!(outcome.report(), Report::Bytes(content.len() as u64));
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o4751);
        let outcome = harness::run(&Tool::Read { path: path.clone() }, Streams::default());
        assert_eq!(outcome.output, content);
        assert_eq!(outcome.report(), Report::Bytes(content.len() as u64));

        let more = Tool::Write { path: path.clone(), mode: 0o600, append: true };
        assert_eq!(harness::run(&more, Streams::input(b"tail".to_vec())).report(), Report::Bytes(4));
        assert_eq!(std::fs::read(&path).unwrap(), [&content[..], b"tail"].concat());
        let shorter = Tool::Write { path: path.clone(), mode: 0o600, append: false };
        harness::run(&shorter, Streams::input(b"short".to_vec())).report();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o4751,
            "only a new file gets the mode"
        );
    }

    #[test]
    fn what_is_no_file_is_said_so() {
        let folder = harness::folder();
        let missing = harness::run(&Tool::Read { path: folder.path("none") }, Streams::default()).fault();
        assert_eq!((missing.kind, missing.path), (FaultKind::NotFound, Some(folder.path("none"))));
        let folder_as_file = harness::run(&Tool::Read { path: folder.path("") }, Streams::default()).fault();
        assert_eq!(folder_as_file.kind, FaultKind::Invalid);
        let write = Tool::Write { path: folder.path("no/such"), mode: 0o600, append: false };
        assert_eq!(harness::run(&write, Streams::input(Vec::new())).fault().kind, FaultKind::NotFound);
    }
}
