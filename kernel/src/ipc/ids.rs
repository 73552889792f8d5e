//! Identifiers of IPC objects, and their keys (`ipc/util.c`): the low bits are a place in a table, the high ones a sequence
//! number, so that the identifier of a removed object does not soon name another one.

use super::Perm;
use super::abi::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE};
use crate::sync::RwLock;
use crate::{Errno, Result, task};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bits of an identifier that are the place (`IPCMNI_SHIFT`).
const PLACE_BITS: u32 = 15;
/// Highest sequence number (`ipcid_seq_max`).
const SEQUENCE_MAX: i32 = i32::MAX >> PLACE_BITS;
/// Places that are gone through before the first is used again (`ipc_min_cycle`).
const LEAST_CYCLE: usize = 64;

/// What has an identifier.
pub trait Object {
    /// Its permissions now.
    fn perm(&self) -> Perm;
    /// Its identifier.
    fn id(&self) -> i32;
}

/// All objects of one kind.
pub struct Ids<T> {
    inner: RwLock<Inner<T>>,
    /// Objects at most.
    max: usize,
}

struct Inner<T> {
    places: BTreeMap<usize, Arc<T>>,
    /// Places of the objects that can be found by key.
    keys: BTreeMap<i32, usize>,
    sequence: i32,
    /// Where the search for a free place begins.
    next: usize,
    last: Option<usize>,
}

impl<T> Inner<T> {
    /// The free place for one more object, going round (`ipc_idr_alloc`); the identifier.
    fn allocate(&mut self, max: usize) -> Result<i32> {
        if self.places.len() >= max {
            return Err(Errno::ENOSPC);
        }
        let cycle = (self.places.len() * 3 / 2).max(LEAST_CYCLE).min(max);
        let free = |place: &usize| !self.places.contains_key(place);
        let from = if self.next < cycle { self.next } else { 0 };
        let place = (from..cycle).find(free).or_else(|| (0..from).find(free)).ok_or(Errno::ENOSPC)?;
        self.next = place + 1;
        if self.last.is_some_and(|last| place <= last) {
            self.sequence = if self.sequence == SEQUENCE_MAX { 0 } else { self.sequence + 1 };
        }
        self.last = Some(place);
        Ok(self.sequence << PLACE_BITS | place as i32)
    }
}

fn place_of(id: i32) -> usize {
    (id & ((1 << PLACE_BITS) - 1)) as usize
}

impl<T: Object> Ids<T> {
    /// A table for at most `max` objects.
    pub fn new(max: usize) -> Ids<T> {
        let inner =
            Inner { places: BTreeMap::new(), keys: BTreeMap::new(), sequence: 0, next: 0, last: None };
        Ids { inner: RwLock::new(inner), max }
    }

    /// shmget(2), semget(2), msgget(2): the object of `key`, which `fits` looks at, or a new one that `make` makes for its
    /// identifier. `ENOENT`, `EEXIST`, `EACCES`, `ENOSPC`.
    pub fn get(
        &self,
        key: i32,
        flags: u32,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(i32) -> Result<Arc<T>>,
    ) -> Result<i32> {
        let mut inner = self.inner.write();
        if key != IPC_PRIVATE {
            match inner.keys.get(&key).and_then(|place| inner.places.get(place)) {
                None if flags & IPC_CREAT == 0 => return Err(Errno::ENOENT),
                None => {}
                Some(_) if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL => {
                    return Err(Errno::EEXIST);
                }
                Some(object) => {
                    fits(object)?;
                    object.perm().check(&task::current().cred(), flags)?;
                    return Ok(object.id());
                }
            }
        }
        let id = inner.allocate(self.max)?;
        let object = make(id)?;
        inner.places.insert(place_of(id), object);
        if key != IPC_PRIVATE {
            inner.keys.insert(key, place_of(id));
        }
        Ok(id)
    }

    /// The object of an identifier: `EINVAL`, also if it was removed.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        let found = self.inner.read().places.get(&place_of(id)).cloned();
        found.filter(|object| object.id() == id).ok_or(Errno::EINVAL)
    }

    /// The object at a place (`SHM_STAT` and its like): `EINVAL`.
    pub fn at(&self, place: i32) -> Result<Arc<T>> {
        if place < 0 {
            return Err(Errno::EINVAL);
        }
        self.inner.read().places.get(&place_of(place)).cloned().ok_or(Errno::EINVAL)
    }

    /// Takes an object out if `still` holds while nobody can find or make one; whether it was there.
    pub fn remove(&self, id: i32, still: impl FnOnce(&T) -> bool) -> bool {
        let mut inner = self.inner.write();
        let place = place_of(id);
        let there = inner.places.get(&place).is_some_and(|object| object.id() == id && still(object));
        let removed = if there { inner.places.remove(&place) } else { None };
        if there {
            inner.keys.retain(|_, keyed| *keyed != place);
        }
        drop(inner);
        removed.is_some()
    }

    /// Makes an object that stays be no longer found by its key.
    pub fn forget_key(&self, id: i32) {
        self.inner.write().keys.retain(|_, place| *place != place_of(id));
    }

    /// All objects in the order of their places.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.inner.read().places.values().cloned().collect()
    }

    /// Number of objects, and the highest place in use (0 if there is none).
    pub fn usage(&self) -> (usize, usize) {
        let inner = self.inner.read();
        (inner.places.len(), inner.places.last_key_value().map_or(0, |(place, _)| *place))
    }

    /// Objects at most.
    pub fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing(i32);

    impl Object for Nothing {
        fn perm(&self) -> Perm {
            Perm { key: 0, uid: 0, gid: 0, cuid: 0, cgid: 0, mode: 0o600 }
        }

        fn id(&self) -> i32 {
            self.0
        }
    }

    fn make(ids: &Ids<Nothing>) -> Result<i32> {
        ids.get(IPC_PRIVATE, 0, |_| Ok(()), |id| Ok(Arc::new(Nothing(id))))
    }

    #[test]
    fn places_go_round_and_the_sequence_tells_reuse_apart() {
        let ids = Ids::new(4096);
        let first = make(&ids).expect("room");
        assert_eq!(first, 0);
        assert!(ids.remove(first, |_| true));
        assert_eq!(make(&ids), Ok(1));
        assert!(ids.remove(1, |_| true));
        for place in 2..64 {
            assert_eq!(make(&ids), Ok(place));
            assert!(ids.remove(place, |_| true));
        }
        assert_eq!(make(&ids), Ok(1 << 15));
        assert_eq!(ids.find(0).err(), Some(Errno::EINVAL));
        assert!(ids.find(1 << 15).is_ok() && ids.at(0).is_ok());
    }

    #[test]
    fn a_full_table_has_no_room() {
        let ids = Ids::new(3);
        assert_eq!((0..3).map(|_| make(&ids)).collect::<Result<Vec<_>>>(), Ok([0, 1, 2].into()));
        assert_eq!(make(&ids), Err(Errno::ENOSPC));
        assert!(ids.remove(1, |_| true) && !ids.remove(1, |_| true));
        assert_eq!(make(&ids), Ok(1 << 15 | 1));
        assert_eq!(ids.usage(), (3, 2));
    }
}
