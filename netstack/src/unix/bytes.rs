//! What lies in a stream socket: bytes, and what was sent with some of them.

use super::rights::Rights;
use crate::message::{Credentials, Incoming};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use kernel::uaccess::Source;
use vfs::pipe::Ring;

/// Where in the stream something else begins than before: another sender, or descriptors.
struct Mark {
    at: u64,
    credentials: Option<Credentials>,
    rights: Option<Rights>,
}

/// The bytes and marks. A mark is only made where it makes a difference, so that plain bytes have none.
#[derive(Default)]
pub struct Bytes {
    ring: Ring,
    /// Position in the stream of the first byte that is there.
    head: u64,
    marks: VecDeque<Mark>,
    /// Who sent the first byte, and the last.
    head_credentials: Option<Credentials>,
    tail_credentials: Option<Credentials>,
}

/// What one read met.
pub struct Met {
    /// Bytes read.
    pub count: usize,
    /// The receive call ends here though it has room.
    pub stop: bool,
    /// Descriptors that were taken.
    pub rights: Option<Rights>,
}

impl Bytes {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Writes up to `most` bytes; descriptors go with the first of them: `EFAULT`, `ENOMEM`.
    pub fn write(
        &mut self,
        source: &mut Source<'_>,
        most: usize,
        credentials: Option<Credentials>,
        rights: &mut Option<Rights>,
    ) -> Result<usize> {
        let apart = rights.is_some()
            || credentials != self.tail_credentials
            || self.marks.back().is_some_and(|mark| mark.rights.is_some());
        if apart {
            self.marks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        }
        let at = self.head + self.ring.len() as u64;
        let count = self.ring.write(source, most, false)?;
        if apart && count > 0 {
            self.marks.push_back(Mark { at, credentials, rights: rights.take() });
            self.tail_credentials = credentials;
        }
        Ok(count)
    }

    /// Takes bytes, or with `peek` copies those behind so many; as far as one recvmsg(2) may go: not past descriptors, nor from
    /// one sender to another if it reports them (`credentials`).
    pub fn read(
        &mut self,
        message: &mut Incoming<'_, '_>,
        peek: Option<usize>,
        credentials: bool,
    ) -> Result<Met> {
        let mut met = Met { count: 0, stop: false, rights: None };
        let mut skip = peek.unwrap_or(0);
        while skip < self.ring.len() && message.sink.left() > 0 {
            let at = self.head + skip as u64;
            let segment = self.marks.iter().rposition(|mark| mark.at <= at);
            let mark = segment.and_then(|index| self.marks.get(index));
            let next = self.marks.get(segment.map_or(0, |index| index + 1));
            let end = next.map_or(self.ring.len(), |mark| (mark.at - self.head) as usize);
            let sender = mark.map_or(self.head_credentials, |mark| mark.credentials);
            if credentials {
                let sender = sender.unwrap_or(Credentials::UNKNOWN);
                if *message.credentials.get_or_insert(sender) != sender {
                    met.stop = true;
                    break;
                }
            }
            let files = mark.and_then(|mark| mark.rights.as_ref());
            let has_files = files.is_some();
            let wanted = end - skip;
            let copied = match self.ring.peek(skip, wanted, message.sink) {
                Ok(copied) => copied,
                Err(errno) if met.count == 0 => return Err(errno),
                Err(_) => break,
            };
            met.count += copied;
            if peek.is_some() {
                if let Some(files) = files {
                    message.files.extend(files.files().iter().cloned());
                }
                skip += copied;
            } else {
                if let Some(index) = segment {
                    // Only the marks that the head has come to: one, unless something is wrong.
                    for mark in self.marks.drain(..=index) {
                        self.head_credentials = mark.credentials;
                        met.rights = mark.rights.or(met.rights.take());
                    }
                }
                self.ring.consume(copied);
                self.head += copied as u64;
            }
            if has_files || copied < wanted {
                // Full, at a fault, or behind descriptors.
                met.stop = true;
                break;
            }
        }
        Ok(met)
    }

    /// What is in flight here.
    pub fn rights(&self) -> impl Iterator<Item = &Rights> {
        self.marks.iter().filter_map(|mark| mark.rights.as_ref())
    }

    /// Takes what is in flight here out.
    pub fn take_rights(&mut self) -> impl Iterator<Item = Rights> {
        self.marks.iter_mut().filter_map(|mark| mark.rights.take())
    }
}
