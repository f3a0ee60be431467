//! What a keeper does with the networks of its testbeds from user space: it captures them, gives them a way out,
//! passes frames of what is no plain machine, and publishes ports.
//!
//! Traffic between plain machines never comes here: the kernel passes it between their macvlan ports. Nothing here
//! makes links, rules or addresses on the host; all descriptors of the fabric come from the launcher.

mod bed;
pub mod capture;
pub mod forward;
pub mod recent;
pub mod stream;
pub mod switch;
pub mod uplink;

pub use bed::Published;

mod wake;
