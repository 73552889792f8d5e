//! Records of the stream of changes, and the contents of files among them.

use boundary::changes::{Change, MAX_DATA, MAX_RECORD};
use std::io::{Error, ErrorKind, Read, Result};

/// The stream.
pub struct Stream<R> {
    input: R,
    /// A record that was read to see that a file has no more data.
    ahead: Option<Change>,
    /// Bytes that may still come.
    left: u64,
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

impl<R: Read> Stream<R> {
    /// Reads at most `limit` bytes.
    pub fn new(input: R, limit: u64) -> Stream<R> {
        Stream { input, ahead: None, left: limit }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| invalid("the sandbox sends more than it could have written; raise --memory"))?;
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => invalid("the sandbox has ended before it told all of its changes"),
            _ => error,
        })
    }

    /// The next record.
    pub fn next(&mut self) -> Result<Change> {
        if let Some(change) = self.ahead.take() {
            return Ok(change);
        }
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_RECORD {
            return Err(invalid("a change is too long"));
        }
        let mut record = vec![0; length];
        self.fill(&mut record)?;
        postcard::from_bytes(&record).map_err(|_| invalid("a change cannot be read"))
    }

    /// The contents of the file whose record was read last, which has `size` bytes.
    pub fn contents(&mut self, size: u64) -> Contents<'_, R> {
        Contents { stream: self, size, at: 0, data: (0, 0), ended: false }
    }
}

/// The contents of a file, holes included.
pub struct Contents<'a, R> {
    stream: &'a mut Stream<R>,
    size: u64,
    at: u64,
    /// Where the data lie that come next in the stream.
    data: (u64, u64),
    /// No more data come.
    ended: bool,
}

impl<R: Read> Contents<'_, R> {
    /// Finds the next data. What has none is a hole, to the end of the file.
    fn look(&mut self) -> Result<()> {
        while self.data.1 <= self.at && !self.ended {
            match self.stream.next()? {
                Change::Data { offset, length } => {
                    let end = offset.checked_add(u64::from(length)).filter(|&end| end <= self.size);
                    match end {
                        Some(end) if offset >= self.at && length <= MAX_DATA => self.data = (offset, end),
                        _ => return Err(invalid("data lie outside of their file")),
                    }
                }
                other => {
                    self.stream.ahead = Some(other);
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        if self.at >= self.size || room.is_empty() {
            return Ok(0);
        }
        self.look()?;
        let (start, end) = if self.ended { (self.size, self.size) } else { self.data };
        let until = if self.at < start { start } else { end };
        let count = usize::try_from(until - self.at).unwrap_or(room.len()).min(room.len());
        let room = room.get_mut(..count).unwrap_or_default();
        if self.at < start {
            room.fill(0)
        } else {
            self.stream.fill(room)?
        }
        self.at += count as u64;
        Ok(count)
    }
}
