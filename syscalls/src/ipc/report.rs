//! `/proc/sysvipc` (proc(5)): the objects and their limits as text. Objects that the reader may not read are shown, too, as
//! Linux shows them.

use crate::Result;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use kernel::ipc::{Object, msg, sem};
use vfs::shm;

/// `/proc/sysvipc/shm`.
pub fn shm() -> Result<Vec<u8>> {
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    let own = kernel::task::current().group.space;
    for segment in shm::segments()?.all() {
        let resident = segment.resident();
        let Ok(state) = segment.lock() else { continue };
        let perm = state.perm;
        let _ = writeln!(
            text,
            "{:>10} {:>10}  {:>4o} {:>21} {:>5} {:>5}  {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10} {:>21} {:>21}",
            perm.key,
            segment.id(),
            perm.mode,
            segment.size(),
            own.shown(state.cpid),
            own.shown(state.lpid),
            state.nattch,
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            state.atime,
            state.dtime,
            state.ctime,
            resident,
            0
        );
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/sem`.
pub fn sem() -> Result<Vec<u8>> {
    let mut text = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for set in sem::sets()?.all() {
        let Ok(state) = set.lock() else { continue };
        let perm = state.perm;
        let _ = writeln!(
            text,
            "{:>10} {:>10}  {:>4o} {:>10} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10}",
            perm.key,
            set.id(),
            perm.mode,
            state.semaphores.len(),
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            state.operated,
            state.changed
        );
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/msg`.
pub fn msg() -> Result<Vec<u8>> {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    let own = kernel::task::current().group.space;
    for queue in msg::queues()?.all() {
        let Ok(state) = queue.lock() else { continue };
        let perm = state.perm;
        let _ = writeln!(
            text,
            "{:>10} {:>10}  {:>4o}  {:>10} {:>10} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10}",
            perm.key,
            queue.id(),
            perm.mode,
            state.cbytes,
            state.count(),
            own.shown(state.lspid),
            own.shown(state.lrpid),
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            state.stime,
            state.rtime,
            state.ctime
        );
    }
    Ok(text.into_bytes())
}
