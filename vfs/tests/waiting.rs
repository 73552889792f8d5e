//! What sleeps and wakes: pipes, FIFOs, epoll, poll, timerfd between real threads. Each has a task of its own, which GS leads
//! to, as in a sandbox; a thread that is never woken ends the test.

mod files;

use files::{read, write};
use kernel::cred::Cred;
use kernel::poll::PollEvents;
use kernel::task::{SLOT_TASK, Task, ThreadGroup, current};
use kernel::{time, timer};
use linux_raw_sys::general as raw;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use trap_handler::block::ThreadBlock;
use trap_handler::host;
use vfs::Errno;
use vfs::epoll::{Epoll, Event};
use vfs::eventfd::EventFd;
use vfs::file::{FileOps, FileRef, OpenFile};
use vfs::pipe::{FifoState, PipeEnd, open_fifo, transfer};
use vfs::poll_set::{self, Polled};
use vfs::timerfd::TimerFd;

const MILLISECOND: u64 = 1_000_000;

fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        vfs::anonymous::init();
        vfs::epoll::init();
        timer::set_wake(|| ());
        // The warden, more or less.
        thread::spawn(|| {
            loop {
                timer::run(time::monotonic());
                thread::sleep(Duration::from_millis(1));
            }
        });
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(60));
            eprintln!("somebody was never woken");
            std::process::abort();
        });
    });
}

/// Runs something on a thread that has a task. Task and block are leaked: the thread refers to them to its end.
fn spawn<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    set_up();
    thread::spawn(move || {
        let group = ThreadGroup::sandbox(false);
        let task = Box::leak(Box::new(Task::new(
            group.tgid,
            group.clone(),
            Arc::new(Cred::new(0, 0, vec![])),
            [0; 16],
        )));
        let block: &mut std::mem::MaybeUninit<ThreadBlock> = Box::leak(Box::new_uninit());
        // SAFETY: the block is this thread's alone, and nothing else on it uses GS.
        unsafe { ThreadBlock::init(block.as_mut_ptr(), &task.state) };
        host::arch_prctl(host::ARCH_SET_GS, block.as_ptr() as u64).expect("GS is set");
        ThreadBlock::current().set_slot(SLOT_TASK, std::ptr::from_ref(task) as u64);
        action()
    })
}

fn open(ops: Arc<dyn FileOps>) -> FileRef {
    OpenFile::new(ops, None, raw::O_RDWR)
}

fn fifo() -> (FileRef, FileRef) {
    set_up();
    let state = Arc::new(FifoState::default());
    let end = |flags| open(open_fifo(&state, flags | raw::O_NONBLOCK).expect("it opens"));
    (end(raw::O_RDONLY), end(raw::O_WRONLY))
}

fn end_of(file: &FileRef) -> &PipeEnd {
    file.ops.as_any().downcast_ref().expect("a pipe")
}

#[test]
fn many_readers_and_writers_lose_nothing_and_all_see_the_end() {
    for size in [8usize, 600, 4096] {
        let (reader, writer) = fifo();
        let writers: Vec<_> = (0..4u8)
            .map(|name| {
                let writer = writer.clone();
                spawn(move || (0..3000).for_each(|_| assert_eq!(write(&writer, &vec![name; size]), Ok(size))))
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let reader = reader.clone();
                spawn(move || {
                    let mut total = 0;
                    loop {
                        let bytes = read(&reader, size).expect("no signals");
                        if bytes.is_empty() {
                            return total;
                        }
                        // Writes of up to PIPE_BUF are never split, and here each read takes one.
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                        total += bytes.len();
                    }
                })
            })
            .collect();
        drop(writer);
        writers.into_iter().for_each(|writer| writer.join().expect("it writes"));
        let total: usize = readers.into_iter().map(|reader| reader.join().expect("it reads")).sum();
        assert_eq!(total, 4 * 3000 * size);
    }
}

#[test]
fn a_long_write_goes_on_as_the_other_end_reads() {
    let (reader, writer) = fifo();
    let writing = spawn(move || write(&writer, &vec![5; 1 << 20]));
    let reading: JoinHandle<usize> = spawn(move || {
        std::iter::from_fn(|| read(&reader, 1000).ok().map(|bytes| bytes.len()).filter(|&count| count > 0))
            .sum()
    });
    assert_eq!((writing.join().expect("written"), reading.join().expect("read")), (Ok(1 << 20), 1 << 20));
}

#[test]
fn a_writer_that_waits_hears_that_nobody_reads_any_more() {
    let (reader, writer) = fifo();
    let writing = spawn(move || write(&writer, &[1; 65536 + 1]).and_then(|_| write(&writer, b"x")));
    thread::sleep(Duration::from_millis(20));
    drop(reader);
    assert_eq!(writing.join().expect("it ends"), Err(Errno::EPIPE));
}

#[test]
fn pending_work_ends_a_wait() {
    let (reader, _writer) = fifo();
    let outcome = spawn(move || {
        current().state.request_work(1);
        let epoll = Epoll::new();
        (read(&reader, 1), epoll.wait(1, None).err())
    });
    assert_eq!(outcome.join().expect("it ends"), (Err(Errno::ERESTARTSYS), Some(Errno::EINTR)));
}

#[test]
fn both_ends_of_a_fifo_wait_for_each_other() {
    for _ in 0..2000 {
        let state = Arc::new(FifoState::default());
        let open = |flags| {
            let state = state.clone();
            spawn(move || open_fifo(&state, flags).is_ok())
        };
        let ends = [open(raw::O_RDONLY), open(raw::O_WRONLY)];
        assert!(ends.into_iter().all(|end| end.join().expect("it ends")));
    }
}

#[test]
fn what_is_moved_between_pipes_arrives() {
    let ((from_reader, from_writer), (to_reader, to_writer)) = (fifo(), fifo());
    const TOTAL: usize = 1 << 20;
    let writing =
        spawn(move || (0..TOTAL / 512).for_each(|_| assert_eq!(write(&from_writer, &[3; 512]), Ok(512))));
    let moving = spawn(move || {
        while transfer(end_of(&from_reader), end_of(&to_writer), 5000, false, false).expect("no signals") > 0
        {
        }
    });
    let reading: JoinHandle<usize> = spawn(move || {
        std::iter::from_fn(|| read(&to_reader, 777).ok().map(|bytes| bytes.len()).filter(|&count| count > 0))
            .sum()
    });
    writing.join().expect("written");
    moving.join().expect("moved");
    assert_eq!(reading.join().expect("read"), TOTAL);
}

/// Waiters on epolls of one semaphore take what others put, until there were `TOTAL`.
fn waiters_take_all(flags: u32, shared: bool) {
    const TOTAL: usize = 8000;
    set_up();
    let semaphore = OpenFile::new(EventFd::new(0, true), None, raw::O_RDWR | raw::O_NONBLOCK);
    let common = Epoll::new();
    let taken = Arc::new(AtomicUsize::new(0));
    if shared {
        common.add(1, &semaphore, Event { events: 1 | flags, data: 0 }).expect("added");
    }
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (semaphore, taken) = (semaphore.clone(), taken.clone());
            let epoll = if shared { common.clone() } else { Epoll::new() };
            spawn(move || {
                if !shared {
                    epoll.add(1, &semaphore, Event { events: 1 | flags, data: 0 }).expect("added");
                }
                while taken.load(Ordering::SeqCst) < TOTAL {
                    epoll.wait(4, Some(time::monotonic() + 2000 * MILLISECOND)).expect("no signals");
                    while read(&semaphore, 8).is_ok() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                    if flags & raw::EPOLLONESHOT != 0 {
                        epoll
                            .modify(1, &semaphore, Event { events: 1 | flags, data: 0 })
                            .expect("it is there");
                    }
                }
                // The others may sleep, and there is nothing more to come.
                let _ = write(&semaphore, &1u64.to_ne_bytes());
            })
        })
        .collect();
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let semaphore = semaphore.clone();
            spawn(move || {
                (0..TOTAL / 2).for_each(|_| assert_eq!(write(&semaphore, &1u64.to_ne_bytes()), Ok(8)))
            })
        })
        .collect();
    writers.into_iter().chain(waiters).for_each(|thread| thread.join().expect("it ends"));
}

#[test]
fn waiters_of_one_epoll_take_all_events() {
    for flags in [0, raw::EPOLLET, raw::EPOLLONESHOT] {
        waiters_take_all(flags, true);
    }
}

#[test]
fn waiters_of_several_epolls_take_all_events() {
    for flags in [0, raw::EPOLLET, raw::EPOLLEXCLUSIVE] {
        waiters_take_all(flags, false);
    }
}

#[test]
fn waits_end_with_their_deadline() {
    let (reader, _writer) = fifo();
    let elapsed = spawn(move || {
        let start = time::monotonic();
        let deadline = Some(start + 20 * MILLISECOND);
        assert_eq!(Epoll::new().wait(1, deadline), Ok(kernel::Short::new()));
        let mut files =
            [Polled { file: Some(reader.into()), wanted: PollEvents::IN, ready: PollEvents::empty() }];
        assert_eq!(poll_set::wait(&mut files, Some(start + 40 * MILLISECOND)), Ok(0));
        time::monotonic() - start
    });
    assert!(elapsed.join().expect("it ends") >= 40 * MILLISECOND);
}

#[test]
fn poll_hears_of_one_among_several_files() {
    let (reader, writer) = fifo();
    let (quiet, _quiet_writer) = fifo();
    let polling = spawn(move || {
        let mut files = [quiet, reader].map(|file| Polled {
            file: Some(file.into()),
            wanted: PollEvents::IN,
            ready: PollEvents::empty(),
        });
        (poll_set::wait(&mut files, None), files[0].ready, files[1].ready)
    });
    thread::sleep(Duration::from_millis(10));
    write(&writer, b"x").expect("room");
    assert_eq!(polling.join().expect("it ends"), (Ok(1), PollEvents::empty(), PollEvents::IN));
}

#[test]
fn a_timer_with_an_interval_is_read_again_and_again() {
    let outcome = spawn(|| {
        let timer = TimerFd::new(raw::CLOCK_MONOTONIC);
        let file = open(timer.clone());
        let start = time::monotonic();
        timer.set(Some(start + 5 * MILLISECOND), 5 * MILLISECOND);
        let epoll = Epoll::new();
        epoll.add(1, &file, Event { events: 1, data: 9 }).expect("added");
        let mut total = 0;
        while total < 10 {
            assert_eq!(epoll.wait(4, None).map(|events| events.len()), Ok(1));
            let count = read(&file, 8).expect("it has expired");
            total += u64::from_ne_bytes(count.try_into().expect("eight bytes"));
        }
        let elapsed = time::monotonic() - start;
        assert!(total <= elapsed / (5 * MILLISECOND) && elapsed >= 50 * MILLISECOND);
        timer.set(None, 0);
        (timer.get(), Arc::downgrade(&timer))
    });
    let (setting, gone) = outcome.join().expect("it ends");
    assert_eq!(setting, (0, 0));
    // The warden may hold it for the moment in which it tells it of its expiry; nobody else does.
    let freed = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        gone.strong_count() == 0
    });
    assert!(freed);
}

#[test]
fn a_timer_that_is_set_by_several_threads_still_expires() {
    set_up();
    let timer = TimerFd::new(raw::CLOCK_MONOTONIC);
    let sets = Arc::new(AtomicU64::new(0));
    let setters: Vec<_> = (0..3)
        .map(|_| {
            let (timer, sets) = (timer.clone(), sets.clone());
            spawn(move || {
                for round in 0..2000 {
                    timer.set(Some(time::monotonic() + round * 1000), 100_000);
                    sets.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    setters.into_iter().for_each(|setter| setter.join().expect("it ends"));
    let file = open(timer);
    let reading = spawn(move || (0..5).all(|_| read(&file, 8).is_ok()));
    assert!(reading.join().expect("it ends"));
}
