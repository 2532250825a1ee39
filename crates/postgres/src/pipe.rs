//! Bytes from a task to a thread: few blocks, used again, and both ends know when the other is gone.
//!
//! The task never blocks: where there is no room it is woken later. The thread never polls: it sleeps until a block is
//! there. Invariant: at most [`BLOCKS_MAX`] blocks of [`BLOCK_LEN_BYTES`] exist for one pipe, whatever passes through.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::loan::{BLOCK_LEN_BYTES, Loan};

/// One that is filled, one that is read, and the rest on the way.
const BLOCKS_MAX: usize = 6;

/// What comes out for the thread.
#[derive(Debug)]
pub(crate) enum Out {
    Block(Vec<u8>),
    /// The thread reads by itself, and gives it back.
    Loan(Loan),
}

/// The thread does not want any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

#[derive(Debug, Default)]
struct State {
    full: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    made: usize,
    lent: Option<Loan>,
    given_back: Option<Loan>,
    /// The task that waits for a spare block, or for what it lent.
    writer: Option<Waker>,
    ended: bool,
    given_up: bool,
}

impl State {
    fn has_nothing(&self) -> bool {
        self.full.is_empty() && self.lent.is_none() && !self.ended
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Pipe {
    /// For the task: an empty block to fill.
    pub(crate) fn poll_spare(&self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, GivenUp>> {
        let mut state = self.lock();
        if state.given_up {
            return Poll::Ready(Err(GivenUp));
        }
        if let Some(block) = state.spare.pop() {
            return Poll::Ready(Ok(block));
        }
        if state.made < BLOCKS_MAX {
            state.made += 1;
            return Poll::Ready(Ok(Vec::with_capacity(BLOCK_LEN_BYTES)));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// For the task: hands a filled block over.
    pub(crate) fn push(&self, block: Vec<u8>) {
        self.lock().full.push_back(block);
        self.arrived.notify_one();
    }

    /// For the task: whether the thread still wants any.
    pub(crate) fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// For the task: lends the connection.
    pub(crate) fn lend(&self, loan: Loan) {
        self.lock().lent = Some(loan);
        self.arrived.notify_one();
    }

    /// For the task: what it lent.
    pub(crate) fn poll_given_back(&self, context: &mut Context<'_>) -> Poll<Result<Loan, GivenUp>> {
        let mut state = self.lock();
        if state.given_up {
            return Poll::Ready(Err(GivenUp));
        }
        match state.given_back.take() {
            Some(loan) => Poll::Ready(Ok(loan)),
            None => {
                state.writer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// For the task: nothing more comes.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.arrived.notify_one();
    }

    /// For the thread: gives an emptied block back and waits for what comes next; `None` is the end.
    pub(crate) fn next(&self, mut emptied: Vec<u8>) -> Option<Out> {
        emptied.clear();
        let mut state = self.lock();
        if emptied.capacity() != 0 {
            state.spare.push(emptied);
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
        }
        loop {
            if let Some(block) = state.full.pop_front() {
                return Some(Out::Block(block));
            }
            if let Some(loan) = state.lent.take() {
                return Some(Out::Loan(loan));
            }
            if state.ended {
                return None;
            }
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the thread: waits until [`next`](Self::next) would not wait; `false` when it still would after `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, |state| state.has_nothing())
            .unwrap_or_else(PoisonError::into_inner);
        !state.has_nothing()
    }

    /// For the thread: gives the connection back.
    pub(crate) fn give_back(&self, loan: Loan) {
        let mut state = self.lock();
        state.given_back = Some(loan);
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }

    /// For the thread: it does not want any more.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.given_up = true;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes blocks, as the task does, until there are no more.
    fn exhaust(pipe: &Pipe) -> Vec<Vec<u8>> {
        let mut context = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match pipe.poll_spare(&mut context) {
            Poll::Ready(block) => Some(block.unwrap()),
            Poll::Pending => None,
        })
        .collect()
    }

    fn next(pipe: &Pipe, emptied: Vec<u8>) -> Option<Vec<u8>> {
        pipe.next(emptied).map(|out| match out {
            Out::Block(block) => block,
            Out::Loan(_) => panic!("nothing was lent"),
        })
    }

    #[test]
    fn blocks_are_bounded_and_used_again() {
        let pipe = Pipe::default();
        let mut blocks = exhaust(&pipe);
        assert_eq!(blocks.len(), BLOCKS_MAX);
        let mut block = blocks.pop().unwrap();
        block.extend_from_slice(b"abc");
        pipe.push(block);
        let block = next(&pipe, Vec::new()).unwrap();
        assert_eq!(block, b"abc");
        assert_eq!(exhaust(&pipe).len(), 0);
        pipe.end();
        assert_eq!(next(&pipe, block), None);
        assert_eq!(exhaust(&pipe), [Vec::<u8>::new()]);
    }

    #[test]
    fn who_waits_is_told_of_bytes_and_of_the_end() {
        let pipe = Pipe::default();
        assert!(!pipe.wait(Duration::from_millis(1)));
        pipe.push(vec![1]);
        assert!(pipe.wait(Duration::ZERO));
        assert_eq!(next(&pipe, Vec::new()), Some(vec![1]));
        pipe.end();
        assert!(pipe.wait(Duration::ZERO));
    }

    #[test]
    fn a_reader_that_gave_up_gets_nothing_more() {
        let pipe = Pipe::default();
        pipe.give_up();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pipe.poll_spare(&mut context), Poll::Ready(Err(GivenUp)));
    }
}
