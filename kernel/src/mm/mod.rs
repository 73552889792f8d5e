//! Memory areas of the program: the kernel's own record of what the host has mapped for it.
//!
//! [`AddressSpace`] is the record and the only place that maps program memory on the host. Its bookkeeping is
//! [`AreaMap`], which asks nobody; the calls are in one file a family (`map_calls`, `protect`, `remap`, `advise`,
//! `lock_calls`), what happens on a fault in `fault`, and what `/proc` shows in `report`.

mod advise;
mod area;
mod area_map;
mod arena;
mod code;
mod fault;
mod host_map;
pub mod learned;
mod lock_calls;
mod map_calls;
mod mappable;
mod patch;
mod protect;
mod range_set;
mod remap;
mod remote;
mod report;
mod screen;
mod space;
#[cfg(test)]
mod tests;
pub mod text;

pub use area::{Area, AreaFlags, Content, Prot};
pub use area_map::{AreaMap, STACK_GUARD, Totals};
pub use fault::{Fault, FaultOutcome, note_cut_file};
pub use map_calls::{FileToMap, MapRequest};
pub use mappable::{Backing, Mappable, MappingId};
pub use range_set::RangeSet;
pub use remote::Reach;
pub use report::AreaReport;
pub use screen::{Action, Kind, MakeWritable, StandIn, make_writable, set_make_writable};
pub use space::{
    AddressSpace, Limits, MAX_AREAS, MAX_STACK, MakeSharedMemory, ProgramRanges, random_pages,
    random_program_base, set_shared_memory,
};
