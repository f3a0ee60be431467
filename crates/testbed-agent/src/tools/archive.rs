//! Folders as streams: tar archives.

mod pack;
mod unpack;

pub(crate) use pack::pack;
pub(crate) use unpack::unpack;

#[cfg(test)]
mod tests;
