//! What an epoll instance decides, apart from files and waiting: when an item goes on the ready list and what it reports.

use super::{EDGE, EXCLUSIVE, Event, ONE_SHOT, WAKEUP};
use alloc::collections::{TryReserveError, VecDeque};
use kernel::poll::PollEvents;

/// Bits that are no events (`EP_PRIVATE_BITS`).
const PRIVATE: u32 = WAKEUP | ONE_SHOT | EDGE | EXCLUSIVE;

/// What an item asks for, and whether it is on the ready list.
#[derive(Debug, Clone, Copy)]
pub struct Interest {
    events: u32,
    data: u64,
    queued: bool,
    removed: bool,
}

/// What is to be done about news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nobody asked.
    Ignore,
    /// The item is on the ready list already.
    Known,
    /// The item is to go on the ready list: it counts as there from now on.
    Queue,
}

impl Interest {
    /// Not on the list. Errors and hang-ups are always asked for.
    pub fn new(event: Event) -> Interest {
        Interest {
            events: event.events | PollEvents::ALWAYS.bits(),
            data: event.data,
            queued: false,
            removed: false,
        }
    }

    /// `EPOLL_CTL_MOD`.
    pub fn set(&mut self, event: Event) {
        (self.events, self.data) = (event.events | PollEvents::ALWAYS.bits(), event.data);
    }

    /// As it is shown in `/proc/PID/fdinfo`.
    pub fn event(&self) -> Event {
        Event { events: self.events, data: self.data }
    }

    /// Whether it was added with `EPOLLEXCLUSIVE`.
    pub fn exclusive(&self) -> bool {
        self.events & EXCLUSIVE != 0
    }

    /// What of `now` is asked for; nothing after the one shot.
    fn asked(&self, now: PollEvents) -> PollEvents {
        if self.removed || self.events & !PRIVATE == 0 {
            return PollEvents::empty();
        }
        now & PollEvents::from_bits_truncate(self.events)
    }

    /// `events` may have come about.
    pub fn news(&mut self, events: PollEvents) -> News {
        if self.asked(events).is_empty() {
            News::Ignore
        } else if core::mem::replace(&mut self.queued, true) {
            News::Known
        } else {
            News::Queue
        }
    }

    /// It was taken off the list, and will be asked.
    pub fn taken(&mut self) {
        self.queued = false;
    }

    /// It is to go; whether it has to be taken off the list.
    pub fn remove(&mut self) -> bool {
        self.removed = true;
        self.queued
    }

    /// The file was asked and is ready for `now`: what epoll_wait(2) reports, and whether the item goes on the list again
    /// (level-triggered: to be looked at next time).
    pub fn report(&mut self, now: PollEvents) -> (Option<Event>, bool) {
        let events = self.asked(now);
        if events.is_empty() {
            return (None, false);
        }
        let event = Event { events: events.bits(), data: self.data };
        if self.events & ONE_SHOT != 0 {
            self.events &= PRIVATE;
            return (Some(event), false);
        }
        let again = self.events & EDGE == 0 && !core::mem::replace(&mut self.queued, true);
        (Some(event), again)
    }

    /// The file was asked, for a poll(2) of the epoll itself: whether it has something to report, and whether the item goes
    /// back where it was.
    pub fn peek(&mut self, now: PollEvents) -> (bool, bool) {
        let ready = !self.asked(now).is_empty();
        (ready, ready && !core::mem::replace(&mut self.queued, true))
    }
}

/// Items that may be ready, the longest waiting first. Each carries a number, so that one round over the list does not come
/// upon an item a second time that was put back meanwhile, by this thread or another.
pub struct List<T> {
    queue: VecDeque<(u64, T)>,
    next: u64,
    closed: bool,
}

impl<T> List<T> {
    /// Without items.
    pub fn new() -> List<T> {
        List { queue: VecDeque::new(), next: 0, closed: false }
    }

    /// Makes place for `items` in all, so that [`Self::push`] does not have to.
    pub fn reserve(&mut self, items: usize) -> Result<(), TryReserveError> {
        self.queue.try_reserve(items.saturating_sub(self.queue.len()))
    }

    /// Puts an item behind the others; gives it back if the list is closed.
    pub fn push(&mut self, item: T) -> Option<T> {
        if self.closed {
            return Some(item);
        }
        self.queue.push_back((self.next, item));
        self.next += 1;
        None
    }

    /// Puts an item back in front; gives it back if the list is closed.
    pub fn put_back(&mut self, number: u64, item: T) -> Option<T> {
        if self.closed {
            return Some(item);
        }
        self.queue.push_front((number, item));
        None
    }

    /// The end of a round that begins now.
    pub fn round(&self) -> u64 {
        self.next
    }

    /// Takes the first item, if it belongs to the round.
    pub fn pop(&mut self, round: u64) -> Option<(u64, T)> {
        self.queue.pop_front_if(|(number, _)| *number < round)
    }

    /// Takes an item out.
    pub fn remove(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.queue.iter().position(|(_, item)| wanted(item))?;
        self.queue.remove(at).map(|(_, item)| item)
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes no items any more; gives those that were there.
    pub fn close(&mut self) -> VecDeque<(u64, T)> {
        self.closed = true;
        core::mem::take(&mut self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const IN: PollEvents = PollEvents::READABLE;

    fn interest(events: u32) -> Interest {
        Interest::new(Event { events, data: 7 })
    }

    #[test]
    fn level_items_stay_until_they_are_not_ready_any_more() {
        let mut item = interest(1);
        assert_eq!((item.news(IN), item.news(IN)), (News::Queue, News::Known));
        item.taken();
        assert_eq!(item.report(IN), (Some(Event { events: 1, data: 7 }), true));
        item.taken();
        assert_eq!(item.report(PollEvents::OUT), (None, false));
        assert_eq!(item.news(IN), News::Queue);
    }

    #[test]
    fn edge_items_come_once_for_each_news() {
        let mut item = interest(1 | EDGE);
        assert_eq!(item.news(IN), News::Queue);
        item.taken();
        assert_eq!(item.report(IN), (Some(Event { events: 1, data: 7 }), false));
        assert_eq!(item.news(IN), News::Queue);
    }

    #[test]
    fn news_that_came_while_the_file_was_asked_queue_the_item_once() {
        let mut item = interest(1);
        item.news(IN);
        item.taken();
        assert_eq!(item.news(IN), News::Queue);
        assert_eq!(item.report(IN), (Some(Event { events: 1, data: 7 }), false));
    }

    #[test]
    fn after_one_shot_nothing_is_reported_until_it_is_set_again() {
        let mut item = interest(1 | ONE_SHOT);
        item.news(IN);
        item.taken();
        assert!(item.report(IN).0.is_some());
        assert_eq!(item.news(IN | PollEvents::HUP), News::Ignore);
        assert_eq!(item.report(PollEvents::HUP), (None, false));
        item.set(Event { events: 4, data: 8 });
        assert_eq!((item.news(IN), item.news(PollEvents::HUP)), (News::Ignore, News::Queue));
    }

    #[test]
    fn a_removed_item_reports_nothing() {
        let mut item = interest(1);
        item.news(IN);
        assert!(item.remove());
        assert_eq!((item.news(IN), item.report(IN)), (News::Ignore, (None, false)));
    }

    #[test]
    fn a_round_meets_each_item_once_and_the_next_begins_behind_those_served() {
        let mut list = List::new();
        for item in ["a", "b", "c"] {
            assert_eq!(list.push(item), None);
        }
        let round = list.round();
        let (_, first) = list.pop(round).expect("three items");
        list.push(first);
        let rest: Vec<_> = core::iter::from_fn(|| list.pop(round)).map(|(_, item)| item).collect();
        assert_eq!((first, rest), ("a", ["b", "c"].into()));
        let again = list.round();
        let (number, item) = list.pop(again).expect("a was put back");
        assert_eq!(item, "a");
        list.put_back(number, item);
        assert_eq!(list.remove(|&item| item == "a"), Some("a"));
        list.close();
        assert_eq!((list.push("d"), list.is_empty()), (Some("d"), true));
    }
}
