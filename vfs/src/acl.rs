//! Access control lists (acl(5)), as Linux's `fs/posix_acl.c` has them: the values of two extended attributes, which
//! filesystems keep in that form. They name users and groups beside the owner; the group bits of the mode are their mask then.

use crate::attributes::Owner;
use crate::namespace::Access;
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::cred::Cred;

/// Attribute that says who may do what.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute of a directory: what new names in it start with.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;
/// `ACL_UNDEFINED_ID`: of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// Whether an attribute's name is one of the two.
pub fn is_name(name: &[u8]) -> bool {
    matches!(name, ACCESS | DEFAULT)
}

/// listxattr(2)'s names, each with its NUL: those of access control lists first.
pub fn names<'a>(all: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Vec<u8> {
    let lists = all.clone().filter(|name| is_name(name));
    lists.chain(all.filter(|name| !is_name(name))).flat_map(|name| name.iter().copied().chain([0])).collect()
}

/// Whether it is an entry of some user or group, and of none.
fn names_nobody(entry: &[u8]) -> bool {
    matches!(*entry, [0x02 | 0x08, 0, _, _, 0xff, 0xff, 0xff, 0xff])
}

/// A value with other numbers for the users and groups that it names: `EINVAL` if one of them has none.
pub fn with_ids(
    value: &[u8],
    user: impl Fn(u32) -> Option<u32>,
    group: impl Fn(u32) -> Option<u32>,
) -> Result<Vec<u8>> {
    let mut value = value.to_vec();
    let (entries, _) = value.get_mut(HEADER..).unwrap_or(&mut []).as_chunks_mut::<ENTRY>();
    for entry in entries {
        if names_nobody(entry) {
            continue;
        }
        let [tag, _, _, _, id @ ..] = entry;
        let old = u32::from_le_bytes(*id);
        let new = match *tag {
            0x02 => user(old),
            0x08 => group(old),
            _ => Some(old),
        };
        *id = new.ok_or(Errno::EINVAL)?.to_le_bytes();
    }
    Ok(value)
}

/// Whom an entry is about (`e_tag`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

impl Tag {
    fn new(tag: u16, id: u32) -> Option<Tag> {
        Some(match (tag, id) {
            (0x01, _) => Tag::Owner,
            (0x02, NOBODY) | (0x08, NOBODY) => return None,
            (0x02, id) => Tag::User(id),
            (0x04, _) => Tag::OwningGroup,
            (0x08, id) => Tag::Group(id),
            (0x10, _) => Tag::Mask,
            (0x20, _) => Tag::Other,
            _ => return None,
        })
    }

    fn encoded(self) -> (u16, u32) {
        match self {
            Tag::Owner => (0x01, NOBODY),
            Tag::User(id) => (0x02, id),
            Tag::OwningGroup => (0x04, NOBODY),
            Tag::Group(id) => (0x08, id),
            Tag::Mask => (0x10, NOBODY),
            Tag::Other => (0x20, NOBODY),
        }
    }

    /// Where in a list it may stand: entries are in this order.
    fn place(self) -> u8 {
        match self {
            Tag::Owner => 0,
            Tag::User(_) => 1,
            Tag::OwningGroup => 2,
            Tag::Group(_) => 3,
            Tag::Mask => 4,
            Tag::Other => 5,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    /// As three bits of a mode.
    allowed: u32,
}

/// A list that is whole: one entry each for owner, group and others, and a mask if anybody else is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

impl Acl {
    /// From an attribute's value; `None` for a list without entries, which is none. `EOPNOTSUPP` for another version, `EINVAL`.
    pub fn parse(value: &[u8]) -> Result<Option<Acl>> {
        let version = value.get(..HEADER).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, rest) = value.get(HEADER..).unwrap_or(&[]).as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let entry = |&[t0, t1, a0, a1, i0, i1, i2, i3]: &[u8; ENTRY]| {
            let tag = Tag::new(u16::from_le_bytes([t0, t1]), u32::from_le_bytes([i0, i1, i2, i3]));
            Some(Entry { tag: tag?, allowed: u16::from_le_bytes([a0, a1]).into() })
        };
        let entries: Option<Vec<Entry>> = entries.iter().map(entry).collect();
        let acl = Acl(entries.ok_or(Errno::EINVAL)?);
        Ok(if acl.0.is_empty() { None } else { Some(acl) })
    }

    /// As [`Self::parse`], of a value that a filesystem keeps: of the host's, entries of ids that mean nobody here are left out.
    pub fn kept(value: &[u8]) -> Result<Option<Acl>> {
        let (header, entries) = value.split_at_checked(HEADER).ok_or(Errno::EINVAL)?;
        let mut known = header.to_vec();
        for entry in entries.chunks(ENTRY).filter(|entry| !names_nobody(entry)) {
            known.extend_from_slice(entry);
        }
        Acl::parse(&known)
    }

    /// The list that says what nine permission bits say.
    pub fn of_mode(mode: u32) -> Acl {
        let entry = |tag, shift: u32| Entry { tag, allowed: mode >> shift & 7 };
        Acl(Vec::from([entry(Tag::Owner, 6), entry(Tag::OwningGroup, 3), entry(Tag::Other, 0)]))
    }

    /// Linux's posix_acl_valid: `EINVAL`. Apart from [`Self::parse`], because who asks is looked at in between.
    pub fn check(&self) -> Result<()> {
        let names_others = self.0.iter().any(|entry| matches!(entry.tag, Tag::User(_) | Tag::Group(_)));
        let count = |place: u8| self.0.iter().filter(|entry| entry.tag.place() == place).count();
        let whole = count(0) == 1
            && count(2) == 1
            && count(5) == 1
            && count(4) <= 1
            && (count(4) == 1 || !names_others)
            && self.0.is_sorted_by_key(|entry| entry.tag.place())
            && self.0.iter().all(|entry| entry.allowed <= 7);
        if whole { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// As an attribute's value.
    pub fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            let (tag, id) = entry.tag.encoded();
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&(entry.allowed as u16).to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    fn allowed(&self, tag: Tag) -> Option<u32> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.allowed)
    }

    /// The permission bits that it means, and whether they say all of it (posix_acl_equiv_mode).
    pub fn mode(&self) -> (u32, bool) {
        let of = |tag| self.allowed(tag).unwrap_or(0);
        let group = self.allowed(Tag::Mask).unwrap_or(of(Tag::OwningGroup));
        (of(Tag::Owner) << 6 | group << 3 | of(Tag::Other), self.is_mode())
    }

    fn is_mode(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, Tag::Owner | Tag::OwningGroup | Tag::Other))
    }

    /// Changes what a mode has a part in: its owner, its mask (or the group, where there is none) and others.
    fn for_mode(&mut self, change: impl Fn(u32, u32) -> u32, mode: u32) {
        let masked = self.allowed(Tag::Mask).is_some();
        for entry in &mut self.0 {
            let shift = match entry.tag {
                Tag::Owner => 6,
                Tag::Mask => 3,
                Tag::OwningGroup if !masked => 3,
                Tag::Other => 0,
                _ => continue,
            };
            entry.allowed = change(entry.allowed, mode >> shift & 7);
        }
    }

    /// What chmod(2) makes of it (posix_acl_chmod).
    pub fn change_mode(&mut self, mode: u32) {
        self.for_mode(|_, bits| bits, mode);
    }

    /// As the default of a directory: the permission bits of a new node that asked for `mode`, and the node's own list, if the
    /// bits do not say all of it (posix_acl_create_masq).
    pub fn inherited(&self, mode: u32) -> (u32, Option<Acl>) {
        let mut acl = self.clone();
        acl.for_mode(|allowed, bits| allowed & bits, mode);
        let (bits, all) = acl.mode();
        (mode & !0o777 | mode & bits, if all { None } else { Some(acl) })
    }

    /// Linux's posix_acl_permission, for who does not own the inode: `EACCES`.
    pub fn permits(&self, cred: &Cred, owner: &Owner, wanted: Access) -> Result<()> {
        let wanted = wanted.bits() & 7;
        let allows = |allowed: u32| allowed & wanted == wanted;
        let masked = |allowed: u32| allows(allowed & self.allowed(Tag::Mask).unwrap_or(7));
        let granted = 'found: {
            let mut in_group = false;
            for entry in &self.0 {
                let member = match entry.tag {
                    Tag::Owner if cred.fsuid == owner.uid => break 'found allows(entry.allowed),
                    Tag::User(uid) if cred.fsuid == uid => break 'found masked(entry.allowed),
                    Tag::OwningGroup => cred.in_group(owner.gid),
                    Tag::Group(gid) => cred.in_group(gid),
                    Tag::Other => break 'found !in_group && allows(entry.allowed),
                    _ => false,
                };
                in_group |= member;
                if member && allows(entry.allowed) {
                    break 'found masked(entry.allowed);
                }
            }
            false
        };
        if granted { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// What chmod(2) makes of the value of [`ACCESS`].
pub fn change_mode(value: &mut Vec<u8>, mode: u32) {
    if let Ok(Some(mut acl)) = Acl::kept(value) {
        acl.change_mode(mode);
        *value = acl.value();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(entries: &[(Tag, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, allowed)| Entry { tag, allowed }).collect())
    }

    fn named() -> Acl {
        acl(&[
            (Tag::Owner, 6),
            (Tag::User(7), 7),
            (Tag::OwningGroup, 4),
            (Tag::Group(20), 2),
            (Tag::Mask, 5),
            (Tag::Other, 1),
        ])
    }

    #[test]
    fn lists_that_are_not_whole_are_refused() {
        named().check().expect("whole");
        acl(&[(Tag::Owner, 6), (Tag::OwningGroup, 4), (Tag::Other, 0)]).check().expect("whole");
        for bad in [
            acl(&[(Tag::Owner, 6), (Tag::Other, 0)]),
            acl(&[(Tag::Owner, 6), (Tag::User(1), 6), (Tag::OwningGroup, 4), (Tag::Other, 0)]),
            acl(&[(Tag::OwningGroup, 6), (Tag::Owner, 4), (Tag::Other, 0)]),
            acl(&[(Tag::Owner, 6), (Tag::OwningGroup, 4), (Tag::Mask, 1), (Tag::Mask, 1), (Tag::Other, 0)]),
            acl(&[(Tag::Owner, 8), (Tag::OwningGroup, 4), (Tag::Other, 0)]),
        ] {
            assert_eq!(bad.check(), Err(Errno::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn ids_have_other_numbers_on_the_host_and_some_have_none() {
        let plus = |id: u32| id.checked_add(1000).filter(|id| *id != 1020);
        let value = acl(&[(Tag::Owner, 6), (Tag::User(7), 7), (Tag::Mask, 7), (Tag::Other, 1)]).value();
        let moved = with_ids(&value, plus, plus).expect("all have a number");
        assert_eq!(
            Acl::parse(&moved).map(|list| list.map(|list| list.allowed(Tag::User(1007)))),
            Ok(Some(Some(7)))
        );
        assert_eq!(with_ids(&named().value(), plus, plus), Err(Errno::EINVAL));
        // One that the host shows as nobody stays that, and grants nobody anything.
        let mut unmapped = named().value();
        unmapped[HEADER + ENTRY + 4..HEADER + 2 * ENTRY].fill(0xff);
        assert_eq!(Acl::parse(&unmapped), Err(Errno::EINVAL));
        assert_eq!(with_ids(&unmapped, Some, Some), Ok(unmapped.clone()));
        let kept = Acl::kept(&unmapped).expect("a list").expect("with entries");
        assert_eq!((kept.0.len(), kept.mode()), (named().0.len() - 1, named().mode()));
        assert_eq!(Acl::of_mode(0o751).mode(), (0o751, true));
    }

    #[test]
    fn the_mask_stands_for_the_group_in_the_mode() {
        assert_eq!(named().mode(), (0o651, false));
        let mut changed = named();
        changed.change_mode(0o777);
        assert_eq!((changed.mode(), changed.allowed(Tag::OwningGroup)), ((0o777, false), Some(4)));
        let (mode, own) = named().inherited(0o100_622);
        assert_eq!((mode, own.map(|own| own.mode())), (0o100_600, Some((0o600, false))));
    }

    #[test]
    fn the_first_that_fits_decides_but_one_of_several_groups_is_enough() {
        let owner = Owner { mode: 0o100_651, uid: 1, gid: 10, acl: true };
        let may = |uid, groups: &[u32], wanted| {
            named().permits(&Cred::new(uid, 99, groups.to_vec()), &owner, wanted).is_ok()
        };
        assert!(may(7, &[], Access::READ | Access::EXECUTE));
        assert!(!may(7, &[], Access::WRITE));
        assert!(may(8, &[10], Access::READ));
        assert!(!may(8, &[10, 20], Access::WRITE));
        assert!(!may(8, &[20], Access::EXECUTE));
        assert!(may(8, &[], Access::EXECUTE));
    }

    proptest! {
        #[test]
        fn any_value_is_a_list_or_refused(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut versioned = VERSION.to_le_bytes().to_vec();
            versioned.extend_from_slice(&value);
            for value in [value, versioned] {
                if let Ok(Some(acl)) = Acl::parse(&value) {
                    prop_assert_eq!(Acl::parse(&acl.value()), Ok(Some(acl.clone())));
                    let _ = (acl.check(), acl.mode(), acl.inherited(0o777));
                }
            }
        }
    }
}
