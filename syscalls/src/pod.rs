//! Containers that share this kernel: a pod. Each has a tree and a mount table of its own, which processes get from who made them, and a
//! mark on every process, by which it ends as a whole. Everything else is common to all of them.
//!
//! The sandbox's own container is [`FIRST`]; with its first process everything ends. The list is a leaf of the lock order.

use crate::mounts::{self, Base, Unmounted};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::boot::MountSpec;
use boundary::control::FIRST;
use core::sync::atomic::Ordering;
use kernel::signal::{self, SIGKILL, SigInfo};
use kernel::sync::{BootCell, Mutex};
use kernel::task::{ThreadGroup, lock_table};
use vfs::Errno;
use vfs::context::FsContext;
use vfs::host::HostTree;

/// A container.
struct Joined {
    /// The supervisor's number of its first process.
    number: u32,
    /// Its tree.
    context: Arc<FsContext>,
    /// Wait status of its first process, once that has ended.
    ended: Option<i32>,
}

struct Pod {
    base: Base,
    containers: Mutex<Vec<Joined>>,
}

static POD: BootCell<Box<Pod>> = BootCell::new();

/// Starts with the sandbox's own container. Called once, at boot.
pub fn init(context: Arc<FsContext>, base: Base) {
    let first = Joined { number: FIRST, context, ended: None };
    POD.set(Box::new(Pod { base, containers: Mutex::new([first].into()) }));
}

/// The tree of a container that has not ended.
pub fn context(number: u32) -> Option<Arc<FsContext>> {
    let containers = POD.get()?.containers.lock();
    let one = containers.iter().find(|one| one.number == number && one.ended.is_none())?;
    Some(one.context.clone())
}

/// The host tree below a directory that has come from the supervisor, closed with its last use.
pub fn tree(directory: i32) -> Option<Arc<HostTree>> {
    POD.get().map(|pod| pod.base.host.beside(directory))
}

/// Puts a container's tree together, and notes the container.
pub fn join(
    number: u32,
    tree: Option<Arc<HostTree>>,
    mounts: &[MountSpec],
) -> Result<Arc<FsContext>, Unmounted> {
    let missing = || Unmounted { errno: Errno::EINVAL, text: String::from("no tree") };
    let (pod, tree) = POD.get().zip(tree).ok_or_else(missing)?;
    let context = mounts::join(&pod.base, tree, mounts)?;
    pod.containers.lock().push(Joined { number, context: context.clone(), ended: None });
    Ok(context)
}

/// A container has not come to be, or has ended.
pub fn forget(number: u32) -> Option<i32> {
    let mut containers = POD.get()?.containers.lock();
    let at = containers.iter().position(|one| one.number == number)?;
    let gone = containers.swap_remove(at);
    // Its tree may go with it: not under the lock.
    drop(containers);
    gone.ended
}

/// The first process of a container has ended, and so the others do.
pub fn first_ended(number: u32, status: i32) {
    let Some(pod) = POD.get() else { return };
    if let Some(one) = pod.containers.lock().iter_mut().find(|one| one.number == number) {
        one.ended = Some(status);
    }
}

/// A process of a container has ended: the status of the container if it was the last one, after its first. What is left then, such as
/// the child of one that was just forking, is killed.
pub fn emptied(number: u32) -> Option<i32> {
    let pod = POD.get()?;
    let ending = |one: &Joined| one.number == number && one.ended.is_some();
    if number == FIRST || !pod.containers.lock().iter().any(ending) {
        return None;
    }
    if members(number).iter().any(|group| group.alive.load(Ordering::SeqCst) > 0) {
        signal_all(number, SIGKILL);
        return None;
    }
    // Of two that see it empty, one tells.
    forget(number)
}

/// Living and dead processes of a container.
fn members(number: u32) -> Vec<Arc<ThreadGroup>> {
    let mut groups = lock_table().map(|table| table.groups()).unwrap_or_default();
    groups.retain(|group| !group.is_sandbox && group.container.load(Ordering::Relaxed) == number);
    groups
}

/// Sends a signal from outside to every process of a container.
pub fn signal_all(number: u32, signal: i32) {
    for group in members(number) {
        let _ = signal::send_to_group(&group, SigInfo::from_outside(signal));
    }
}
