//! Pipes, eventfds and epolls as they are, as far as nobody has to sleep: who sleeps needs a thread of a sandbox.

mod files;

use files::{read, write};
use kernel::poll::PollEvents;
use linux_raw_sys::general as raw;
use std::sync::{Arc, Once};
use vfs::Errno;
use vfs::epoll::{Epoll, Event};
use vfs::eventfd::EventFd;
use vfs::file::{FileOps, FileRef, OpenFile};
use vfs::pipe::{FifoState, open_fifo};
use vfs::poll_set::{self, Polled};

const EDGE: u32 = raw::EPOLLET;

fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        vfs::anonymous::init();
        vfs::epoll::init();
    });
}

fn open(ops: Arc<dyn FileOps>) -> FileRef {
    OpenFile::new(ops, None, raw::O_RDWR | raw::O_NONBLOCK)
}

/// The reading and the writing end of a FIFO, neither of which blocks.
fn fifo() -> (FileRef, FileRef) {
    set_up();
    let state = Arc::new(FifoState::default());
    let end = |flags| open(open_fifo(&state, flags | raw::O_NONBLOCK).expect("it opens"));
    (end(raw::O_RDONLY), end(raw::O_WRONLY))
}

fn poll(file: &FileRef) -> PollEvents {
    let wanted = PollEvents::IN | PollEvents::OUT;
    let mut files = [Polled { file: Some(file.clone().into()), wanted, ready: PollEvents::empty() }];
    poll_set::wait(&mut files, Some(0)).expect("nobody waits");
    files[0].ready
}

fn event(events: u32, data: u64) -> Event {
    Event { events, data }
}

fn now(epoll: &Epoll, max: usize) -> Vec<(u32, u64)> {
    let events = epoll.wait(max, Some(0)).expect("nobody waits");
    events.into_iter().map(|event| (event.events, event.data)).collect()
}

#[test]
fn a_full_pipe_is_writable_again_when_a_page_is_free() {
    let (reader, writer) = fifo();
    let total: usize = std::iter::from_fn(|| write(&writer, &[7; 4096]).ok()).sum();
    assert_eq!((total, poll(&writer)), (65536, PollEvents::empty()));
    read(&reader, 1).expect("data");
    read(&reader, 4094).expect("data");
    assert_eq!((poll(&writer), write(&writer, &[0; 4096])), (PollEvents::empty(), Err(Errno::EAGAIN)));
    read(&reader, 1).expect("data");
    assert_eq!((poll(&writer), write(&writer, &[0; 4096])), (PollEvents::OUT, Ok(4096)));
}

#[test]
fn long_writes_go_as_far_as_there_is_room() {
    let (reader, writer) = fifo();
    assert_eq!(write(&writer, &[1; 100_000]), Ok(65536));
    assert_eq!(read(&reader, 100_000).map(|bytes| bytes.len()), Ok(65536));
    assert_eq!(read(&reader, 1), Err(Errno::EAGAIN));
}

#[test]
fn ends_of_a_fifo_come_and_go() {
    set_up();
    let state = Arc::new(FifoState::default());
    let end = |flags| open_fifo(&state, flags | raw::O_NONBLOCK).map(open);
    assert_eq!(end(raw::O_WRONLY).err(), Some(Errno::ENXIO));
    let reader = end(raw::O_RDONLY).expect("readers do not wait");
    assert_eq!((poll(&reader), read(&reader, 1)), (PollEvents::empty(), Ok(vec![])));
    let writer = end(raw::O_WRONLY).expect("there is a reader");
    assert_eq!((read(&reader, 1), write(&writer, b"ab")), (Err(Errno::EAGAIN), Ok(2)));
    drop(writer);
    assert_eq!(poll(&reader), PollEvents::IN | PollEvents::HUP);
    assert_eq!((read(&reader, 9), read(&reader, 9)), (Ok(b"ab".to_vec()), Ok(vec![])));
    let writer = end(raw::O_RDWR).expect("both directions");
    drop(reader);
    assert_eq!(
        (poll(&writer), write(&writer, b"c"), read(&writer, 9)),
        (PollEvents::OUT, Ok(1), Ok(b"c".to_vec()))
    );
}

#[test]
fn packets_stay_apart() {
    let (reader, _) = fifo();
    let writer = OpenFile::new(
        reader.ops.reopen(raw::O_WRONLY).expect("a pipe"),
        None,
        raw::O_WRONLY | raw::O_NONBLOCK | raw::O_DIRECT,
    );
    let count = (0..100).take_while(|_| write(&writer, b"ab") == Ok(2)).count();
    assert_eq!((count, read(&reader, 1), read(&reader, 9)), (16, Ok(b"a".to_vec()), Ok(b"ab".to_vec())));
}

#[test]
fn bytes_are_moved_and_copied_between_pipes() {
    let ((from_reader, from_writer), (to_reader, to_writer)) = (fifo(), fifo());
    let end =
        |file: &FileRef| -> *const vfs::pipe::PipeEnd { file.ops.as_any().downcast_ref().expect("a pipe") };
    // SAFETY: the files live to the end of the test.
    let (from, to) = unsafe { (&*end(&from_reader), &*end(&to_writer)) };
    assert_eq!(vfs::pipe::transfer(from, to, 10, true, false), Err(Errno::EAGAIN));
    write(&from_writer, b"hello").expect("room");
    assert_eq!(vfs::pipe::transfer(from, to, 4, true, true), Ok(4));
    assert_eq!(vfs::pipe::transfer(from, to, 10, true, false), Ok(5));
    assert_eq!(
        (read(&to_reader, 99), read(&from_reader, 9)),
        (Ok(b"hellhello".to_vec()), Err(Errno::EAGAIN))
    );
    from.put_back(b"xy").expect("memory");
    write(&from_writer, b"z").expect("room");
    assert_eq!(read(&from_reader, 9), Ok(b"xyz".to_vec()));
}

#[test]
fn an_eventfd_counts_and_does_not_overflow() {
    set_up();
    let file = open(EventFd::new(3, false));
    assert_eq!(read(&file, 8), Ok(3u64.to_ne_bytes().to_vec()));
    assert_eq!((read(&file, 8), read(&file, 7)), (Err(Errno::EAGAIN), Err(Errno::EINVAL)));
    assert_eq!(write(&file, &(u64::MAX - 1).to_ne_bytes()), Ok(8));
    assert_eq!((write(&file, &1u64.to_ne_bytes()), poll(&file)), (Err(Errno::EAGAIN), PollEvents::IN));
    assert_eq!((write(&file, &[0xff; 8]), write(&file, &[0; 16])), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    let semaphore = open(EventFd::new(2, true));
    assert_eq!(read(&semaphore, 8), Ok(1u64.to_ne_bytes().to_vec()));
}

#[test]
fn level_and_edge_differ_as_on_linux() {
    let (reader, writer) = fifo();
    let (level, edge) = (Epoll::new(), Epoll::new());
    level.add(3, &reader, event(1, 10)).expect("added");
    edge.add(3, &reader, event(1 | EDGE, 20)).expect("added");
    edge.add(4, &writer, event(4 | EDGE, 21)).expect("added");
    assert_eq!((now(&level, 8), now(&edge, 8)), (vec![], vec![(4, 21)]));
    write(&writer, b"abc").expect("room");
    assert_eq!((now(&level, 8), now(&level, 8)), (vec![(1, 10)], vec![(1, 10)]));
    assert_eq!((now(&edge, 8), now(&edge, 8)), (vec![(1, 20)], vec![]));
    read(&reader, 1).expect("data");
    assert_eq!(now(&edge, 8), vec![]);
    write(&writer, b"d").expect("room");
    assert_eq!(now(&edge, 8), vec![(1, 20)]);
    read(&reader, 9).expect("data");
    assert_eq!(now(&level, 8), vec![]);
    drop(writer);
    assert_eq!((now(&level, 8), now(&edge, 8)), (vec![(0x10, 10)], vec![(0x10, 20)]));
}

#[test]
fn news_that_an_edge_item_did_not_ask_for_are_none() {
    set_up();
    let file = open(EventFd::new(2, true));
    let epoll = Epoll::new();
    epoll.add(3, &file, event(1 | EDGE, 1)).expect("added");
    assert_eq!(now(&epoll, 8), vec![(1, 1)]);
    read(&file, 8).expect("a count");
    assert_eq!(now(&epoll, 8), vec![]);
    write(&file, &1u64.to_ne_bytes()).expect("room");
    assert_eq!(now(&epoll, 8), vec![(1, 1)]);
}

#[test]
fn turns_are_taken_when_fewer_are_asked_for() {
    set_up();
    let files: Vec<_> = (0..3).map(|_| open(EventFd::new(1, false))).collect();
    let epoll = Epoll::new();
    for (fd, file) in files.iter().enumerate() {
        epoll.add(fd as i32, file, event(1, fd as u64)).expect("added");
    }
    let turns: Vec<_> = (0..6).flat_map(|_| now(&epoll, 1)).map(|(_, data)| data).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    assert_eq!(now(&epoll, 8).len(), 3);
}

#[test]
fn one_shot_items_wait_to_be_set_again() {
    set_up();
    let file = open(EventFd::new(1, false));
    let epoll = Epoll::new();
    epoll.add(3, &file, event(1 | raw::EPOLLONESHOT, 1)).expect("added");
    assert_eq!((now(&epoll, 8), now(&epoll, 8)), (vec![(1, 1)], vec![]));
    epoll.modify(3, &file, event(5 | raw::EPOLLONESHOT, 2)).expect("it is there");
    assert_eq!((now(&epoll, 8), now(&epoll, 8)), (vec![(5, 2)], vec![]));
}

#[test]
fn calls_on_items_are_refused_as_on_linux() {
    set_up();
    let (file, other) = (open(EventFd::new(1, false)), open(EventFd::new(1, false)));
    let epoll = Epoll::new();
    epoll.add(3, &file, event(1, 0)).expect("added");
    assert_eq!(epoll.add(3, &file, event(1, 0)), Err(Errno::EEXIST));
    assert_eq!(epoll.add(4, &file, event(1, 0)), Ok(()));
    assert_eq!(
        (epoll.modify(3, &other, event(1, 0)), epoll.delete(3, &other)),
        (Err(Errno::ENOENT), Err(Errno::ENOENT))
    );
    let exclusive = raw::EPOLLEXCLUSIVE;
    assert_eq!(epoll.add(5, &file, event(0x2000 | exclusive, 0)), Err(Errno::EINVAL));
    assert_eq!(epoll.modify(3, &other, event(1 | exclusive, 0)), Err(Errno::EINVAL));
    epoll.add(5, &file, event(1 | exclusive, 0)).expect("added");
    assert_eq!(epoll.modify(5, &file, event(1, 0)), Err(Errno::EINVAL));
    assert_eq!((epoll.delete(4, &file), epoll.delete(5, &file), now(&epoll, 9).len()), (Ok(()), Ok(()), 1));
}

#[test]
fn items_go_with_the_last_reference_to_their_file() {
    set_up();
    let epoll = Epoll::new();
    let kept = open(EventFd::new(1, false));
    epoll.add(1000, &kept, event(1, 1000)).expect("added");
    for round in 0..500 {
        let file = open(EventFd::new(1, false));
        epoll.add(3, &file, event(1, round)).expect("the number is free again");
        if round % 2 == 0 {
            assert!(now(&epoll, 9).contains(&(1, round)));
        }
    }
    assert_eq!(now(&epoll, 9), vec![(1, 1000)]);
    assert_eq!(epoll.fdinfo().lines().count(), 1);
}

#[test]
fn an_epoll_in_an_epoll_passes_on_what_is_ready() {
    let (reader, writer) = fifo();
    let (inner, outer) = (Epoll::new(), Epoll::new());
    let inner_file = open(inner.clone());
    outer.add(9, &inner_file, event(1, 5)).expect("added");
    inner.add(3, &reader, event(1, 6)).expect("added");
    assert_eq!((now(&outer, 8), poll(&inner_file)), (vec![], PollEvents::empty()));
    write(&writer, b"x").expect("room");
    assert_eq!(
        (now(&outer, 8), poll(&inner_file), now(&inner, 8)),
        (vec![(1, 5)], PollEvents::IN, vec![(1, 6)])
    );
    read(&reader, 1).expect("data");
    assert_eq!((now(&outer, 8), now(&inner, 8)), (vec![], vec![]));
}

#[test]
fn chains_of_epolls_are_as_long_as_linux_allows_and_make_no_circles() {
    set_up();
    for backwards in [false, true] {
        let epolls: Vec<_> = (0..6).map(|_| Epoll::new()).collect();
        let files: Vec<_> = epolls.iter().map(|epoll| open(epoll.clone())).collect();
        let mut pairs: Vec<_> = (0..5).collect();
        if backwards {
            pairs.reverse();
        }
        let outcomes: Vec<_> =
            pairs.iter().map(|&at| epolls[at].add(3, &files[at + 1], event(1, 0))).collect();
        assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Ok(()), Err(Errno::ELOOP)]);
    }
    let (one, two) = (Epoll::new(), Epoll::new());
    let (one_file, two_file) = (open(one.clone()), open(two.clone()));
    assert_eq!(one.add(3, &one_file, event(1, 0)), Err(Errno::EINVAL));
    assert_eq!(one.add(3, &two_file, event(1, 0)), Ok(()));
    assert_eq!(two.add(3, &one_file, event(1, 0)), Err(Errno::ELOOP));
    one.delete(3, &two_file).expect("it is there");
    assert_eq!(two.add(3, &one_file, event(1, 0)), Ok(()));
}

#[test]
fn closing_an_epoll_while_others_write_does_not_hang() {
    let (reader, writer) = fifo();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let noise = {
        let (stop, writer, reader) = (stop.clone(), writer.clone(), reader.clone());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = write(&writer, b"x");
                let _ = read(&reader, 1);
            }
        })
    };
    for round in 0..2000 {
        let (inner, outer) = (Epoll::new(), Epoll::new());
        let inner_file = open(inner.clone());
        inner.add(3, &reader, event(1 | if round % 2 == 0 { EDGE } else { 0 }, 1)).expect("added");
        outer.add(4, &inner_file, event(1, 2)).expect("added");
        now(&outer, 4);
        let _ = inner.modify(3, &reader, event(1, 3));
        now(&inner, 4);
        if round % 3 == 0 {
            inner.delete(3, &reader).expect("it is there");
            assert_eq!(now(&inner, 4), vec![]);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    noise.join().expect("the writer ends");
}
