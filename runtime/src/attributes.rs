//! Changes of file attributes for a sandbox without a mount namespace (`--allow-missing=userns`). Landlock has no rules for chmod(2),
//! chown(2), utimensat(2) and setxattr(2): the sandbox could change every file of its user. So its filter does not allow them, and
//! the supervisor, whom the filter tells of them (seccomp_unotify(2)), makes those that concern a file granted for writing. Any
//! other ends the sandbox, as every call that is not allowed.
//!
//! What comes from inside is a number and an address: the supervisor opens the file for itself, asks the host where that lies, and
//! acts on what it has opened. The text of a name is read once.

use crate::launch;
use crate::view::View;
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, notify_id_valid};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a name at most, with its end: `NAME_MAX` and `XATTR_NAME_MAX` are 255.
const LONGEST_NAME: usize = 256;
/// `XATTR_SIZE_MAX`.
const LARGEST_VALUE: usize = 64 << 10;
/// Permissions and the sticky bit: what the filter allows with namespaces, too.
const MODE: u64 = 0o1777;

/// Why a call is not made.
enum Refused {
    /// The sandbox may not try that.
    Ends,
    /// The host said so, or would say so.
    Error(i32),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Error(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A change, with everything that was read from inside.
enum Change {
    Mode(u32),
    Owner(u32, u32),
    Times(Option<[libc::timespec; 2]>),
    Attribute { name: CString, value: Option<Vec<u8>>, flags: i32 },
}

/// What may be changed.
#[derive(Debug)]
pub struct Door {
    granted: Vec<PathBuf>,
    closed: Vec<PathBuf>,
}

impl Door {
    /// For what a view grants for writing; `None` if that is nothing.
    pub fn new(view: &View) -> Option<Door> {
        let writable = view.host_paths.iter().filter(|path| path.writable);
        let granted: Vec<PathBuf> =
            writable.filter_map(|path| std::fs::canonicalize(&path.path).ok()).collect();
        (!granted.is_empty()).then(|| Door { granted, closed: launch::closed(view) })
    }

    /// Makes a call that the filter has stopped, and answers it. False if the sandbox is to end for it.
    pub fn serve(&self, listener: &OwnedFd, call: &ScmpNotifReq) -> bool {
        let still_there = || notify_id_valid(listener.as_raw_fd(), call.id).is_ok();
        let number = i64::from(i32::from(call.data.syscall));
        let answer = match self.make(number, call.data.args, &Caller { pid: call.pid }, &still_there) {
            Err(Refused::Ends) => return false,
            Err(Refused::Error(number)) => {
                ScmpNotifResp::new_error(call.id, -number, ScmpNotifRespFlags::empty())
            }
            Ok(()) => ScmpNotifResp::new_val(call.id, 0, ScmpNotifRespFlags::empty()),
        };
        // Whoever asked may have been killed meanwhile.
        let _ = answer.respond(listener.as_raw_fd());
        true
    }

    fn make(
        &self,
        number: i64,
        arguments: [u64; 6],
        caller: &Caller,
        still_there: &dyn Fn() -> bool,
    ) -> Result<(), Refused> {
        let [descriptor, address, third, fourth, fifth, _] = arguments;
        let (name, change) = match number {
            libc::SYS_fchmod => (None, Change::Mode(mode(address)?)),
            libc::SYS_fchmodat => (Some((address, 0)), Change::Mode(mode(third)?)),
            libc::SYS_fchownat => (Some((address, fifth)), Change::Owner(third as u32, fourth as u32)),
            libc::SYS_utimensat => (Some((address, fourth)), Change::Times(caller.times(third)?)),
            libc::SYS_fsetxattr => {
                let value = caller
                    .bytes(third, usize::try_from(fourth).ok().filter(|&size| size <= LARGEST_VALUE))?;
                (None, caller.attribute(address, Some(value), fifth as i32)?)
            }
            libc::SYS_fremovexattr => (None, caller.attribute(address, None, 0)?),
            _ => return Err(Refused::Ends),
        };
        let name = name.map(|(address, flags)| caller.name(address, flags)).transpose()?.flatten();
        let directory = caller.descriptor(descriptor)?;
        // Numbers of processes are used again: until here it was the one that called.
        if !still_there() {
            return Err(Refused::Error(libc::EINTR));
        }
        let target = match name {
            Some(name) => child(&directory, &name)?,
            None => directory,
        };
        if !self.has(&place(&target)?) {
            return Err(Refused::Ends);
        }
        Ok(change.apply(&target)?)
    }

    fn has(&self, path: &Path) -> bool {
        let within =
            |directories: &[PathBuf]| directories.iter().any(|directory| path.starts_with(directory));
        within(&self.granted) && !within(&self.closed)
    }
}

fn mode(argument: u64) -> Result<u32, Refused> {
    if argument & !MODE == 0 { Ok(argument as u32) } else { Err(Refused::Ends) }
}

/// Who made the call: a thread of the sandbox.
struct Caller {
    pid: u32,
}

impl Caller {
    fn descriptor(&self, number: u64) -> Result<File, Refused> {
        Ok(open_path(Path::new(&format!("/proc/{}/fd/{}", self.pid, number as i32)), 0)?)
    }

    fn bytes(&self, address: u64, length: Option<usize>) -> Result<Vec<u8>, Refused> {
        let mut bytes = vec![0; length.ok_or(Refused::Error(libc::E2BIG))?];
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        memory.read_exact_at(&mut bytes, address).map_err(|_| Refused::Error(libc::EFAULT))?;
        Ok(bytes)
    }

    /// A string of at most [`LONGEST_NAME`] bytes with its end. What lies behind it need not be mapped.
    fn text(&self, address: u64) -> Result<CString, Refused> {
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        let mut bytes = [0u8; LONGEST_NAME];
        let got = memory.read_at(&mut bytes, address).map_err(|_| Refused::Error(libc::EFAULT))?;
        let text = bytes.get(..got).and_then(|bytes| std::ffi::CStr::from_bytes_until_nul(bytes).ok());
        text.map(Into::into).ok_or(Refused::Error(libc::ENAMETOOLONG))
    }

    /// The name of an entry; `None` if the descriptor itself is meant. Our kernel asks for nothing else.
    fn name(&self, address: u64, flags: u64) -> Result<Option<CString>, Refused> {
        let name = self.text(address)?;
        match name.as_bytes() {
            b"" if flags & libc::AT_EMPTY_PATH as u64 != 0 => Ok(None),
            b"" | b"." | b".." => Err(Refused::Ends),
            bytes if bytes.contains(&b'/') => Err(Refused::Ends),
            _ => Ok(Some(name)),
        }
    }

    fn times(&self, address: u64) -> Result<Option<[libc::timespec; 2]>, Refused> {
        if address == 0 {
            return Ok(None);
        }
        let bytes = self.bytes(address, Some(32))?;
        let words: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|word| i64::from_ne_bytes(*word)).collect();
        let [seconds, nanoseconds, other_seconds, other_nanoseconds] = words.as_slice() else {
            return Err(Refused::Error(libc::EFAULT));
        };
        let time = |&tv_sec: &i64, &tv_nsec: &i64| libc::timespec { tv_sec, tv_nsec };
        Ok(Some([time(seconds, nanoseconds), time(other_seconds, other_nanoseconds)]))
    }

    /// Those that mean nothing to the host, and access control lists, which say no more than modes do.
    fn attribute(&self, address: u64, value: Option<Vec<u8>>, flags: i32) -> Result<Change, Refused> {
        let name = self.text(address)?;
        let lists = [c"system.posix_acl_access", c"system.posix_acl_default"];
        if !name.as_bytes().starts_with(b"user.") && !lists.contains(&name.as_c_str()) {
            return Err(Refused::Ends);
        }
        Ok(Change::Attribute { name, value, flags })
    }
}

fn open_path(path: &Path, flags: i32) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC | flags).open(path)
}

/// The entry of a directory, whatever it is: a link is not followed.
fn child(directory: &File, name: &CString) -> Result<File, Refused> {
    // One name, without a slash: it leads to an entry of the directory or nowhere.
    let path = own(directory).join(OsStr::from_bytes(name.as_bytes()));
    Ok(open_path(&path, libc::O_NOFOLLOW)?)
}

/// A descriptor of this process, as a path.
fn own(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Where the host says that it lies. For a file without a name, where it had one.
fn place(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(own(file))
}

impl Change {
    fn apply(&self, target: &File) -> io::Result<()> {
        let path = CString::new(own(target).into_os_string().as_bytes())?;
        let fd = target.as_fd().as_raw_fd();
        // SAFETY: all of them: terminated strings and buffers of the lengths given, which live until the call is over. A path of
        // /proc/self/fd means what is open, and no link behind it is followed.
        let result = unsafe {
            match self {
                Change::Mode(mode) => libc::chmod(path.as_ptr(), *mode),
                Change::Owner(user, group) => {
                    libc::fchownat(fd, c"".as_ptr(), *user, *group, libc::AT_EMPTY_PATH)
                }
                Change::Times(times) => {
                    let times = times.as_ref().map_or(std::ptr::null(), |times| times.as_ptr());
                    libc::utimensat(fd, c"".as_ptr(), times, libc::AT_EMPTY_PATH)
                }
                Change::Attribute { name, value: Some(value), flags } => {
                    libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), *flags)
                }
                Change::Attribute { name, value: None, .. } => {
                    libc::removexattr(path.as_ptr(), name.as_ptr())
                }
            }
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// A directory that was granted for writing, with one beside it that was not, and a door to the first.
    struct Place {
        tree: tempfile::TempDir,
        door: Door,
    }

    impl Place {
        fn new() -> Place {
            let tree = tempfile::tempdir().expect("a directory");
            let root = tree.path().canonicalize().expect("a path");
            for directory in ["granted/closed", "other"] {
                std::fs::create_dir_all(root.join(directory)).expect("made");
            }
            for file in ["granted/file", "granted/closed/file", "other/file"] {
                std::fs::write(root.join(file), "x").expect("written");
                std::fs::set_permissions(root.join(file), PermissionsExt::from_mode(0o600)).expect("mode");
            }
            let door =
                Door { granted: vec![root.join("granted")], closed: vec![root.join("granted/closed")] };
            Place { tree, door }
        }

        fn open(&self, name: &str) -> File {
            open_path(&self.tree.path().join(name), 0).expect("opens")
        }

        fn mode(&self, name: &str) -> u32 {
            self.tree.path().join(name).symlink_metadata().expect("is there").mode() & 0o7777
        }

        /// As a sandbox's process would be heard; this one stands for it.
        fn call(&self, number: i64, args: [u64; 6]) -> Result<(), Refused> {
            self.door.make(number, args, &Caller { pid: std::process::id() }, &|| true)
        }

        fn chmod(&self, directory: &str, name: &std::ffi::CStr, mode: u64) -> Result<(), Refused> {
            let directory = self.open(directory);
            self.call(libc::SYS_fchmodat, [directory.as_raw_fd() as u64, name.as_ptr() as u64, mode, 0, 0, 0])
        }
    }

    #[test]
    fn what_was_granted_is_changed_and_nothing_else() {
        let place = Place::new();
        assert!(place.chmod("granted", c"file", 0o751).is_ok());
        assert_eq!(place.mode("granted/file"), 0o751);
        for (directory, name) in [("other", c"file"), ("granted/closed", c"file"), (".", c"other")] {
            assert!(matches!(place.chmod(directory, name, 0o777), Err(Refused::Ends)), "{directory}");
        }
        assert_eq!((place.mode("other/file"), place.mode("granted/closed/file")), (0o600, 0o600));
        let file = place.open("other/file").as_raw_fd() as u64;
        assert!(place.call(libc::SYS_fchmod, [file, 0o777, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let place = Place::new();
        symlink("../other/file", place.tree.path().join("granted/link")).expect("a link");
        for name in [c"../other/file", c"..", c".", c"", c"closed/file", c"/etc/hosts"] {
            assert!(matches!(place.chmod("granted", name, 0o777), Err(Refused::Ends)), "{name:?}");
        }
        // Of a link itself Linux keeps no mode.
        assert!(matches!(place.chmod("granted", c"link", 0o777), Err(Refused::Error(_))));
        assert_eq!(place.mode("other/file"), 0o600);
    }

    #[test]
    fn bits_and_attributes_that_mean_something_to_the_host_end_the_sandbox() {
        let place = Place::new();
        for mode in [0o4755, 0o2755, 1 << 32] {
            assert!(matches!(place.chmod("granted", c"file", mode), Err(Refused::Ends)), "{mode:o}");
        }
        let file = place.open("granted/file");
        for name in [c"system.posix_acl", c"security.capability", c"trusted.a"] {
            let args = [file.as_raw_fd() as u64, name.as_ptr() as u64, name.as_ptr() as u64, 1, 0, 0];
            assert!(matches!(place.call(libc::SYS_fsetxattr, args), Err(Refused::Ends)), "{name:?}");
        }
        assert!(matches!(place.call(libc::SYS_openat, [0; 6]), Err(Refused::Ends)));
    }

    #[test]
    fn addresses_and_lengths_that_lie_are_errors() {
        let place = Place::new();
        let file = place.open("granted/file");
        let fd = file.as_raw_fd() as u64;
        let long = CString::new([b'x'; 400]).expect("a name");
        for (number, args, error) in [
            (libc::SYS_fchmodat, [fd, 8, 0o600, 0, 0, 0], libc::EFAULT),
            (libc::SYS_fchmodat, [fd, long.as_ptr() as u64, 0o600, 0, 0, 0], libc::ENAMETOOLONG),
            (
                libc::SYS_utimensat,
                [fd, c"".as_ptr() as u64, 8, libc::AT_EMPTY_PATH as u64, 0, 0],
                libc::EFAULT,
            ),
            (libc::SYS_fsetxattr, [fd, c"user.a".as_ptr() as u64, 8, u64::MAX, 0, 0], libc::E2BIG),
            (libc::SYS_fchmod, [u64::MAX, 0o600, 0, 0, 0, 0], libc::ENOENT),
        ] {
            assert!(
                matches!(place.call(number, args), Err(Refused::Error(said)) if said == error),
                "{number}"
            );
        }
    }

    #[test]
    fn times_and_owners_of_an_open_file_are_changed() {
        let place = Place::new();
        let file = place.open("granted/file");
        let (fd, empty) = (file.as_raw_fd() as u64, c"".as_ptr() as u64);
        let times: [u64; 4] = [1, 2, 3, 4];
        let flags = libc::AT_EMPTY_PATH as u64;
        assert!(place.call(libc::SYS_utimensat, [fd, empty, times.as_ptr() as u64, flags, 0, 0]).is_ok());
        let after = std::fs::metadata(place.tree.path().join("granted/file")).expect("is there");
        assert_eq!((after.atime(), after.atime_nsec(), after.mtime(), after.mtime_nsec()), (1, 2, 3, 4));
        let nobody = u64::from(u32::MAX);
        assert!(place.call(libc::SYS_fchownat, [fd, empty, nobody, nobody, flags, 0]).is_ok());
    }
}
