//! Workers: each has a lane of its own, and they share tasks and the board of segments that wait to be sealed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use super::{Board, Lane, Writer};
use crate::write_error::WriteError;

/// Tasks that workers share; a task may add more.
pub struct Tasks<'t, T> {
    stack: Mutex<Vec<T>>,
    active: AtomicUsize,
    failed: AtomicBool,
    idle: &'t AtomicUsize,
    board: &'t Mutex<Board>,
    bell: &'t Condvar,
}

impl<T> Tasks<'_, T> {
    /// Adds a task; the newest is done first, which keeps the walk near where it is.
    pub fn push(&self, task: T) {
        self.stack
            .lock()
            .expect("no thread panics at the stack")
            .push(task);
        if self.idle.load(Ordering::SeqCst) > 0 {
            // Under the lock of those who wait, so that the bell cannot ring between their look and their wait.
            let _board = self.board.lock().expect("no thread panics at the board");
            self.bell.notify_one();
        }
    }

    /// True when another worker has no task, so that splitting work pays.
    #[must_use]
    pub fn hungry(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    fn pop(&self) -> Option<T> {
        let mut stack = self.stack.lock().expect("no thread panics at the stack");
        let task = stack.pop();
        if task.is_some() {
            self.active.fetch_add(1, Ordering::SeqCst);
        }
        task
    }

    fn ring_all(&self) {
        let _board = self.board.lock().expect("no thread panics at the board");
        self.bell.notify_all();
    }

    /// Waits until there may be something to do; false when all is done.
    fn wait(&self) -> bool {
        let board = self.board.lock().expect("no thread panics at the board");
        let nothing = board.jobs.is_empty()
            && self
                .stack
                .lock()
                .expect("no thread panics at the stack")
                .is_empty();
        let over = self.failed.load(Ordering::SeqCst)
            || (nothing && self.active.load(Ordering::SeqCst) == 0);
        if nothing && !over {
            drop(
                self.bell
                    .wait(board)
                    .expect("no thread panics at the board"),
            );
        }
        !over
    }
}

/// Does `tasks`, and those that they add, with one lane for each of `threads` workers.
///
/// # Errors
/// The first error of any task; the others end early.
pub fn work<'r, T, E>(
    writer: &Writer<'r>,
    threads: usize,
    tasks: Vec<T>,
    each: impl Fn(&mut Lane<'_, 'r>, T, &Tasks<'_, T>) -> Result<(), E> + Sync,
) -> Result<(), E>
where
    T: Send,
    E: From<WriteError> + Send,
{
    let shared = Tasks {
        stack: Mutex::new(tasks),
        active: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        idle: &writer.idle,
        board: &writer.board,
        bell: &writer.bell,
    };
    let first_error = Mutex::new(None);
    let worker = || {
        let mut lane = writer.lane();
        let mut run = || -> Result<(), E> {
            loop {
                if shared.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if let Some(task) = shared.pop() {
                    let result = if writer.stopped() {
                        Err(WriteError::Stopped.into())
                    } else {
                        each(&mut lane, task, &shared)
                    };
                    if shared.active.fetch_sub(1, Ordering::SeqCst) == 1 {
                        shared.ring_all();
                    }
                    result?;
                } else {
                    // Who seals for others counts as idle too: the next segment waits for it instead of it for that.
                    shared.idle.fetch_add(1, Ordering::SeqCst);
                    let more = lane.help()? || shared.wait();
                    shared.idle.fetch_sub(1, Ordering::SeqCst);
                    if !more {
                        return Ok(lane.finish()?);
                    }
                }
            }
        };
        if let Err(error) = run() {
            first_error
                .lock()
                .expect("no thread panics with an error")
                .get_or_insert(error);
            shared.failed.store(true, Ordering::SeqCst);
            shared.ring_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(worker);
        }
        worker();
    });
    match first_error
        .into_inner()
        .expect("no thread panics with an error")
    {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
