//! What a machine with a kernel of its own finds, by the names that its hypervisor gives them.

/// The disk with the root file system (erofs), below all changes.
pub const ROOT_DISK: &str = "root";
/// The disk of changes (ext4).
pub const CHANGES_DISK: &str = "changes";
/// The disk with the modules of its kernel (erofs): a folder for each release, as in `/lib/modules`.
pub const MODULES_DISK: &str = "modules";
/// The port that leads to the keeper.
pub const PORT: &str = "testbed";

/// The disk with the root of an image of a [capsule](crate::capsule), by its number; the first is [`ROOT_DISK`].
pub fn image_disk(number: u32) -> String {
    if number == 0 { ROOT_DISK.to_owned() } else { format!("image{number}") }
}
