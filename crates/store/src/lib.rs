//! Keeps and returns named immutable objects.
//!
//! A store is the storage below a repository: a folder, memory, later remote storage. It knows
//! nothing of what the objects mean, opens none of them, and holds no key. The [`Store`] trait is
//! the contract, [`conformance`](fn@conformance) the test that every store passes, and the
//! decorators ([`RetryStore`], [`RecordingStore`], [`RehearsalStore`] and, for tests, `FaultyStore`) add one behaviour
//! each to any store.
//!
//! ```
//! use lifeboat_store::{Body, ErrorKind, MemoryStore, ObjectName, Store};
//!
//! let store = MemoryStore::new();
//! let name: ObjectName = "packs/d/0f".parse()?;
//! store.put_new(&name, Body::Bytes(b"sealed bytes"))?;
//!
//! let mut part = [0; 5];
//! store.get_range(&name, 7, &mut part)?;
//! assert_eq!(&part, b"bytes");
//!
//! let again = store.put_new(&name, Body::Bytes(b"other bytes")).unwrap_err();
//! assert_eq!(again.kind(), ErrorKind::AlreadyExists);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The modules stand in dependency order: each uses only those above it.

mod name;
mod error;

mod body;
mod contract;
mod temporary;

mod spool;

mod local;
mod location;
mod memory;

mod recording;
mod rehearsal;
mod retry;

#[cfg(any(test, feature = "testing"))]
mod faulty;

mod conformance;

pub use body::Body;
pub use conformance::{Failure, conformance};
pub use contract::{Abilities, Listed, Store};
pub use error::{Error, ErrorKind, Operation, Result, Subject};
#[cfg(any(test, feature = "testing"))]
pub use faulty::{Fault, FaultyStore, When};
pub use local::LocalStore;
pub use location::{Location, LocationError, create, open};
pub use memory::MemoryStore;
pub use name::{InvalidName, ObjectName};
pub use recording::{Call, RecordingStore, Total};
pub use rehearsal::RehearsalStore;
pub use retry::{RetryPolicy, RetryStore};
pub use spool::spool;
