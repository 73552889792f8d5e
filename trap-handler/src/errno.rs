//! Linux error numbers, as the host returns them and as the program sees them.

use core::fmt;
use linux_raw_sys::errno as raw;

/// A Linux error number (errno(3)), 1 to 4095.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs, reason = "the names are errno(3)'s")]
        impl Errno {
            $(pub const $name: Errno = Errno(raw::$name as i32);)*

            /// The symbolic name, such as `ENOENT`; `None` for a number without one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    Errno::ERESTARTSYS => Some("ERESTARTSYS"),
                    Errno::ERESTARTNOINTR => Some("ERESTARTNOINTR"),
                    Errno::ERESTARTNOHAND => Some("ERESTARTNOHAND"),
                    Errno::ERESTART_RESTARTBLOCK => Some("ERESTART_RESTARTBLOCK"),
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENODATA ETIME EBADMSG EOVERFLOW EILSEQ
    ELIBBAD EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
    EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET
    ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY
    EINPROGRESS ESTALE EDQUOT ENOMEDIUM ECANCELED EOWNERDEAD ENOTRECOVERABLE
}

/// Results inside the kernel that the exit path turns into a restart or `EINTR` (the host kernel's
/// `include/linux/errno.h`); a program never sees them.
impl Errno {
    /// Restart unless the handler lacks `SA_RESTART`.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Restart in any case: the call has no `EINTR`.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Restart only if no handler runs.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Restart through restart_syscall(2), which continues with the remaining time.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);

    /// The value for the program's RAX.
    pub fn as_result(self) -> i64 {
        -i64::from(self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
