//! The texts that a walk is made of: the path, and those of the links on the way.

use alloc::vec::Vec;
use smallvec::SmallVec;

/// What is left to walk: of the path, and of the links met on the way, which come first. Most walks meet none and so
/// allocate nothing.
pub(super) struct Texts<'a> {
    given: &'a [u8],
    /// The innermost last: a text, and how far it was walked.
    links: Vec<(Vec<u8>, usize)>,
}

/// One component: as it stands in the path, or copied out of a link's text, which may be walked to its end meanwhile.
pub(super) enum Name<'a> {
    Given(&'a [u8]),
    OfLink(SmallVec<[u8; 32]>),
}

impl Name<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Name::Given(bytes) => bytes,
            Name::OfLink(bytes) => bytes,
        }
    }

    /// Whether it is `.` or `..`.
    pub(super) fn is_dots(&self) -> bool {
        matches!(self.bytes(), b"." | b"..")
    }
}

impl<'a> Texts<'a> {
    pub(super) fn new(path: &'a [u8]) -> Texts<'a> {
        Texts { given: path, links: Vec::new() }
    }

    /// The rest of the innermost text.
    pub(super) fn rest(&self) -> &[u8] {
        match self.links.last() {
            Some((text, at)) => text.get(*at..).unwrap_or(&[]),
            None => self.given,
        }
    }

    pub(super) fn advance(&mut self, count: usize) {
        match self.links.last_mut() {
            Some((_, at)) => *at += count,
            None => self.given = self.given.get(count..).unwrap_or(&[]),
        }
    }

    /// The component that the rest begins with; goes on behind it.
    pub(super) fn take_component(&mut self) -> Name<'a> {
        let length = component_length(self.rest());
        let name = match self.links.last() {
            Some(_) => Name::OfLink(SmallVec::from_slice(self.rest().get(..length).unwrap_or(&[]))),
            None => Name::Given(self.given.get(..length).unwrap_or(&[])),
        };
        self.advance(length);
        name
    }

    /// Goes to the start of the next component, out of texts that have none left: whether there is one.
    pub(super) fn more(&mut self) -> bool {
        loop {
            let slashes = self.rest().iter().take_while(|&&byte| byte == b'/').count();
            self.advance(slashes);
            if !self.rest().is_empty() {
                return true;
            }
            if self.links.pop().is_none() {
                return false;
            }
        }
    }

    /// Whether what lies around the innermost text is done.
    pub(super) fn is_outermost(&self) -> bool {
        match self.links.as_slice() {
            [] => true,
            [_] => self.given.is_empty(),
            _ => false,
        }
    }

    /// Goes on with a link's text. What has only slashes left would hide that its last component is the path's last one.
    pub(super) fn push(&mut self, text: Vec<u8>) {
        while self.links.last().is_some_and(|(text, at)| only_slashes(text.get(*at..).unwrap_or(&[]))) {
            self.links.pop();
        }
        if self.links.is_empty() && only_slashes(self.given) {
            self.given = &[];
        }
        self.links.push((text, 0));
    }
}

/// Length of the first component of a text that does not begin with a slash.
pub(super) fn component_length(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b'/').unwrap_or(text.len())
}

pub(super) fn only_slashes(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_runs_of_slashes() {
        let mut texts = Texts::new(b"//usr///lib/x//");
        let mut parts = Vec::new();
        while texts.more() {
            parts.push(texts.take_component().bytes().to_vec());
        }
        assert_eq!(parts, [&b"usr"[..], b"lib", b"x"]);
    }

    #[test]
    fn components_of_links_outlive_their_text() {
        let mut texts = Texts::new(b"/c/...");
        texts.push(b"..".to_vec());
        let of_link = texts.take_component();
        assert!(texts.more());
        let given = texts.take_component();
        assert!(texts.more());
        let last = texts.take_component();
        assert_eq!((of_link.bytes(), given.bytes()), (&b".."[..], &b"c"[..]));
        assert_eq!([of_link, given, last].map(|name| name.is_dots()), [true, false, false]);
    }

    #[test]
    fn a_link_at_the_end_of_a_path_ends_the_path() {
        let mut texts = Texts::new(b"///");
        texts.push(b"a/b".to_vec());
        assert!(texts.is_outermost());
        let mut texts = Texts::new(b"/c");
        texts.push(b"a".to_vec());
        assert!(!texts.is_outermost());
        texts.advance(1);
        assert!(texts.more());
        assert_eq!((texts.rest(), texts.is_outermost()), (&b"c"[..], true));
    }
}
