//! A decorator that makes a call again when its error may pass.
//!
//! After an error it is unknown whether the call took effect, so that the second call may meet the
//! first one's work: a put then finds its own object, a delete finds none. Both are successes, the
//! put after it has compared the object with its body.
//!
//! **Invariant:** no call is made twice unless its error was transient, and no repeated put succeeds
//! unless the store holds the body's bytes.

use std::fmt;
use std::time::Duration;

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::ObjectName;

/// How much of a doubtful object is compared at once, in bytes.
const COMPARE_BYTES: usize = 1 << 20;

/// How often and how patiently a call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made in all; 1 is never again, and 0 counts as 1.
    pub attempts_max: u32,
    /// The wait before the second attempt; it doubles before each further one.
    pub first_delay: Duration,
    /// The longest wait between two attempts.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    /// Eight attempts within about a minute: 0.5, 1, 2, 4, 8, 16 and 30 seconds apart.
    fn default() -> Self {
        Self {
            attempts_max: 8,
            first_delay: Duration::from_millis(500),
            delay_max: Duration::from_secs(30),
        }
    }
}

/// A store whose calls are repeated while their errors are transient.
///
/// A repeated delete that finds nothing counts as done: it cannot be told from one whose first reply
/// was lost. A list is kept in memory until it is complete.
pub struct RetryStore<S> {
    inner: S,
    policy: RetryPolicy,
    sleep: Box<dyn Fn(Duration) + Send + Sync>,
}

impl<S: Store> RetryStore<S> {
    /// Decorates a store; `sleep` waits for the time it is given (and may add some at random, so
    /// that many clients do not come back at the same instant).
    pub fn new(
        inner: S,
        policy: RetryPolicy,
        sleep: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            policy,
            sleep: Box::new(sleep),
        }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes a call until it succeeds, fails for good, or was made often enough.
    ///
    /// The call is told whether it is a repetition.
    fn repeat<T>(&self, mut call: impl FnMut(bool) -> Result<T>) -> Result<T> {
        let mut delay = self.policy.first_delay.min(self.policy.delay_max);
        let mut attempt = 1;
        loop {
            match call(attempt > 1) {
                Err(error) if error.is_transient() && attempt < self.policy.attempts_max => {
                    (self.sleep)(delay);
                    delay = delay.saturating_mul(2).min(self.policy.delay_max);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Whether the object of this name has exactly the bytes of `body`.
    fn holds(&self, name: &ObjectName, body: Body<'_>) -> Result<bool> {
        let mut stored = vec![0; COMPARE_BYTES];
        let mut wanted = vec![0; COMPARE_BYTES];
        let mut offset = 0;
        while offset < body.len() {
            let rest = usize::try_from(body.len() - offset).unwrap_or(usize::MAX);
            let part = rest.min(COMPARE_BYTES);
            match self.get_range(name, offset, &mut stored[..part]) {
                Err(error) if error.kind() == ErrorKind::Truncated => return Ok(false),
                result => result?,
            }
            body.read_exact_at(&mut wanted[..part], offset)
                .map_err(|error| Error::from_io(error, Operation::Put, name))?;
            if stored[..part] != wanted[..part] {
                return Ok(false);
            }
            offset += part as u64;
        }
        // It is no longer than the body if there is no byte behind.
        match self.get_range(name, body.len(), &mut [0]) {
            Err(error) if error.kind() == ErrorKind::Truncated => Ok(true),
            result => result.map(|()| false),
        }
    }
}

impl<S: Store> Store for RetryStore<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        self.repeat(|again| match self.inner.put_new(name, body) {
            Err(error) if again && error.kind() == ErrorKind::AlreadyExists => {
                if self.holds(name, body)? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            result => result,
        })
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        self.repeat(|_| self.inner.get(name, max_bytes))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        self.repeat(|_| self.inner.get_range(name, offset, into))
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        // Kept until the list is complete: what was reported before an error is no list.
        let listed = self.repeat(|_| {
            let mut listed = Vec::new();
            self.inner.list(prefix, &mut |object| listed.push(object))?;
            Ok(listed)
        })?;
        listed.into_iter().for_each(found);
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.repeat(|again| match self.inner.delete(name) {
            Err(error) if again && error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
}

impl<S: fmt::Debug> fmt::Debug for RetryStore<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RetryStore")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
