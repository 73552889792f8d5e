//! Files as the kernel reads and writes them for itself.

use kernel::uaccess::{Sink, Source};
use vfs::Errno;
use vfs::file::FileRef;

/// Writes what there is room for.
pub fn write(file: &FileRef, bytes: &[u8]) -> Result<usize, Errno> {
    file.ops.write_at(file, 0, &mut Source::kernel(bytes))
}

/// Reads `most` bytes at most.
pub fn read(file: &FileRef, most: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; most];
    let count = file.ops.read_at(file, 0, &mut Sink::kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(bytes)
}
