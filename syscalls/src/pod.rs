//! Containers that share this kernel: a pod. Each has a tree and a mount table of its own, which processes get from who made them, and a
//! mark on every process, by which it ends as a whole; and process ids of its own ([`PidSpace`]), unless it shares those of the sandbox or of
//! another container. Everything else is common to all of them.
//!
//! The sandbox's own container is [`FIRST`]; with its first process everything ends. The list is a leaf of the lock order.

use crate::mounts::{self, Base, Unmounted};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::control::FIRST;
use boundary::process::{Container, ProcessIds};
use core::sync::atomic::Ordering;
use kernel::signal::{self, SIGKILL, SigInfo};
use kernel::sync::{BootCell, Mutex};
use kernel::task::{PidSpace, ThreadGroup, lock_table};
use vfs::Errno;
use vfs::context::FsContext;
use vfs::host::HostTree;

/// Where a process is to be.
#[derive(Clone)]
pub struct Place {
    /// The container, by the supervisor's number of its first process.
    pub container: u32,
    /// Its tree.
    pub context: Arc<FsContext>,
    /// Whom it sees.
    pub space: PidSpace,
}

/// A container.
struct Joined {
    place: Place,
    /// Its name, by which others can share its process ids.
    id: String,
    /// Its process ids are its own: with its first process they end.
    owns_space: bool,
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
    let place = Place { container: FIRST, context, space: PidSpace::ALL };
    let first = Joined { place, id: String::new(), owns_space: false, ended: None };
    POD.set(Box::new(Pod { base, containers: Mutex::new([first].into()) }));
}

/// Where the processes of a container are that has not ended.
pub fn place(number: u32) -> Option<Place> {
    let containers = POD.get()?.containers.lock();
    let one = containers.iter().find(|one| one.place.container == number && one.ended.is_none())?;
    Some(one.place.clone())
}

/// The container that a space of process ids is of.
pub fn owner(space: PidSpace) -> Option<u32> {
    if space.is_all() {
        return None;
    }
    let containers = POD.get()?.containers.lock();
    let one = containers.iter().find(|one| one.owns_space && one.place.space == space)?;
    Some(one.place.container)
}

/// The host tree below a directory that has come from the supervisor, closed with its last use.
pub fn tree(directory: i32) -> Option<Arc<HostTree>> {
    POD.get().map(|pod| pod.base.host.beside(directory))
}

/// Puts a container's tree together, and notes the container.
pub fn join(number: u32, tree: Option<Arc<HostTree>>, container: &Container) -> Result<Place, Unmounted> {
    let missing = || Unmounted { errno: Errno::EINVAL, text: String::from("no tree") };
    let (pod, tree) = POD.get().zip(tree).ok_or_else(missing)?;
    let owns_space = container.process_ids == ProcessIds::Own;
    let space = space_for(pod, &container.process_ids)
        .map_err(|errno| Unmounted { errno, text: String::from("process ids") })?;
    let context = mounts::join(&pod.base, tree, &container.mounts, space).inspect_err(|_| {
        if owns_space {
            drop_space(space);
        }
    })?;
    let place = Place { container: number, context, space };
    let joined = Joined { place: place.clone(), id: container.id.clone(), owns_space, ended: None };
    pod.containers.lock().push(joined);
    Ok(place)
}

/// `ESRCH` if the container whose process ids it is to share is not there, `EAGAIN` if there are too many.
fn space_for(pod: &Pod, asked: &ProcessIds) -> Result<PidSpace, Errno> {
    match asked {
        ProcessIds::Own => lock_table()?.new_space(),
        ProcessIds::Sandboxs => Ok(PidSpace::ALL),
        ProcessIds::Of(id) => {
            let containers = pod.containers.lock();
            let of = containers.iter().find(|one| one.id == *id && one.ended.is_none());
            of.map(|one| one.place.space).ok_or(Errno::ESRCH)
        }
    }
}

fn drop_space(space: PidSpace) {
    if let Ok(mut table) = lock_table() {
        table.drop_space(space);
    }
}

/// A container has not come to be, or has ended.
pub fn forget(number: u32) -> Option<i32> {
    let mut containers = POD.get()?.containers.lock();
    let at = containers.iter().position(|one| one.place.container == number)?;
    let gone = containers.swap_remove(at);
    // Its tree may go with it: not under the lock.
    drop(containers);
    if gone.owns_space {
        drop_space(gone.place.space);
    }
    gone.ended
}

/// The first process of a container has ended, and so the others do.
pub fn first_ended(number: u32, status: i32) {
    let Some(pod) = POD.get() else { return };
    if let Some(one) = pod.containers.lock().iter_mut().find(|one| one.place.container == number) {
        one.ended = Some(status);
    }
}

/// A process of a container has ended: the status of the container if it was the last one, after its first. What is left then, such as
/// the child of one that was just forking, is killed; and who else has the container's process ids, if they are its own.
pub fn emptied(number: u32) -> Option<i32> {
    let ending = |one: &&Joined| one.place.container == number && one.ended.is_some();
    let own = {
        let containers = POD.get()?.containers.lock();
        let one = containers.iter().find(ending).filter(|_| number != FIRST)?;
        one.owns_space.then_some(one.place.space)
    };
    let left =
        all_groups(|group| group.container.load(Ordering::Relaxed) == number || Some(group.space) == own);
    if left.iter().any(|group| group.alive.load(Ordering::SeqCst) > 0) {
        send_all(&left, SIGKILL);
        return None;
    }
    // Of two that see it empty, one tells.
    forget(number)
}

/// Living and dead processes that are wanted.
fn all_groups(wanted: impl Fn(&ThreadGroup) -> bool) -> Vec<Arc<ThreadGroup>> {
    let mut groups = lock_table().map(|table| table.groups()).unwrap_or_default();
    groups.retain(|group| !group.is_sandbox && wanted(group));
    groups
}

fn send_all(groups: &[Arc<ThreadGroup>], signal: i32) {
    for group in groups {
        let _ = signal::send_to_group(group, SigInfo::from_outside(signal));
    }
}

/// Sends a signal from outside to every process of a container.
pub fn signal_all(number: u32, signal: i32) {
    send_all(&all_groups(|group| group.container.load(Ordering::Relaxed) == number), signal);
}
