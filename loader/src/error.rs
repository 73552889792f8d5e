//! Why a file cannot be executed.

use core::fmt;
use linux_raw_sys::errno;

/// A Linux error number, positive, as in errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident),*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, see errno(3).")]
                pub const $name: Errno = Errno(errno::$name as i32);
            )*
        }
    };
}

errnos!(EPERM, ENOENT, EIO, E2BIG, ENOEXEC, ENOMEM, EFAULT, EEXIST, EINVAL, ELOOP, EOVERFLOW, ELIBBAD);

/// Why a file cannot be executed: Linux's answer, and the reason for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadError {
    /// What `execve` gives, or would give if anyone were left to see it.
    pub errno: Errno,
    /// What was wrong, to be logged.
    pub what: &'static str,
    /// Linux finds this out only after it has thrown the old program away (`begin_new_exec`). `execve` cannot
    /// return then: the process is killed by `SIGSEGV` (fs/exec.c, "past the point of no return").
    pub fatal: bool,
}

impl LoadError {
    /// An error that `execve` returns.
    pub(crate) const fn returned(errno: Errno, what: &'static str) -> Self {
        LoadError { errno, what, fatal: false }
    }

    /// An error behind the point of no return.
    pub(crate) const fn fatal(errno: Errno, what: &'static str) -> Self {
        LoadError { errno, what, fatal: true }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.what, self.errno.0)
    }
}

impl core::error::Error for LoadError {}
