//! What the run has changed in its overlays, told to the supervisor at the end of the sandbox.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::changes::{Change, MAX_DATA, MAX_RECORD};
use kernel::boot;
use kernel::sync::BootCell;
use trap_handler::{Errno, host};
use vfs::inode::Inode;
use vfs::overlay::changes::{Report, tell};

/// A mounted overlay and its path, without a leading slash.
pub type Mounted = (Vec<u8>, Arc<dyn Inode>);

static OVERLAYS: BootCell<Box<[Mounted]>> = BootCell::new();

/// Remembers the overlays of the sandbox. Called once, at boot.
pub fn init(overlays: Vec<Mounted>) {
    OVERLAYS.set(overlays.into_boxed_slice());
}

struct Stream {
    fd: i32,
    with_data: bool,
}

impl Stream {
    fn send(&self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match host::write(self.fd, bytes.into()) {
                Ok(0) => return Err(Errno::EIO),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Report for Stream {
    fn change(&mut self, change: &Change) -> Result<(), Errno> {
        let record = postcard::to_allocvec(change).map_err(|_| Errno::ENOMEM)?;
        let length = u32::try_from(record.len()).map_err(|_| Errno::E2BIG)?;
        if record.len() > MAX_RECORD {
            return Err(Errno::E2BIG);
        }
        self.send(&[&length.to_le_bytes()[..], &record].concat())
    }

    fn wants_data(&self) -> bool {
        self.with_data
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for (bytes, index) in bytes.chunks(MAX_DATA as usize).zip(0u64..) {
            let offset = offset.saturating_add(index.saturating_mul(u64::from(MAX_DATA)));
            self.change(&Change::Data { offset, length: bytes.len() as u32 })?;
            self.send(bytes)?;
        }
        Ok(())
    }
}

/// Tells the supervisor, if it wants to know. The first process has ended; others may still run, and what they change may or may
/// not be seen.
pub fn report() {
    let Some(config) = boot::config().filter(|config| config.fds.changes >= 0) else { return };
    let mut stream = Stream { fd: config.fds.changes, with_data: config.options.changes_with_data };
    let mounted = OVERLAYS.get().map_or(&[][..], |mounted| mounted);
    let told = mounted.iter().try_for_each(|(path, root)| tell(root, path, &mut stream));
    // Without the last record, the supervisor knows that something is missing.
    if let Err(error) = told.and_then(|()| stream.change(&Change::End)) {
        kernel::warn!("the changes could not be told: {error}");
    }
}
