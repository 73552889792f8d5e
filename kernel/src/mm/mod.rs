//! Memory areas of the program: the kernel's own record of what the host has mapped for it.

mod mappable;

pub use mappable::{Backing, Mappable, MappingId};
