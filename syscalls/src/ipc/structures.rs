//! Layouts of the structures that the `*ctl` calls exchange (x86-64, `asm-generic/{ipcbuf,shmbuf,sembuf,msgbuf}.h`): the
//! generated bindings lack them. All are written as 64-bit words.

use crate::Result;
use kernel::ipc::Perm;
use kernel::uaccess;

/// Words of a `struct ipc64_perm`.
pub const PERM_WORDS: usize = 6;

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// `struct ipc64_perm`; `id` for its sequence number.
pub fn perm_words(perm: &Perm, id: i32) -> [u64; PERM_WORDS] {
    const SEQUENCE_SHIFT: i32 = 15;
    let sequence = (id >> SEQUENCE_SHIFT) as u16;
    [
        pair(perm.key as u32, perm.uid),
        pair(perm.gid, perm.cuid),
        pair(perm.cgid, perm.mode),
        u64::from(sequence),
        0,
        0,
    ]
}

/// Two 32-bit fields that share a word.
pub fn pids(first: i32, second: i32) -> u64 {
    pair(first as u32, second as u32)
}

/// What `IPC_SET` takes of a `struct ipc64_perm` that begins a structure: user, group, mode.
pub fn read_perm(address: u64) -> Result<(u32, u32, u32)> {
    let words: [u64; PERM_WORDS] = uaccess::read(address)?;
    let [first, second, third, ..] = words;
    Ok(((first >> 32) as u32, second as u32, (third >> 32) as u32))
}

/// Writes permissions and what follows them.
pub fn write<const N: usize>(address: u64, perm: [u64; PERM_WORDS], rest: [u64; N]) -> Result<()> {
    uaccess::write(address, &perm)?;
    uaccess::write(address.wrapping_add(size_of_val(&perm) as u64), &rest)
}
