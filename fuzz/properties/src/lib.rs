//! What must hold for any bytes: one function for each fuzz target.
//!
//! A function returns when everything held and panics when something did not. The fuzzing engine calls them with bytes
//! that it makes up, the test of this package with the corpus that is kept; so whatever was found once is asked on every
//! run of the tests. Nothing here is random: the same bytes do the same thing.

mod draw;
mod world;

mod frame;
mod name;
mod object;
mod pack;
mod record;
mod slot;
mod stream;

mod database;
mod repository;
mod words;

mod seeds;

pub use database::{archive, conninfo, password_file, script, service_file};
pub use frame::frame;
pub use name::name;
pub use object::object;
pub use pack::{index, pack, segment};
pub use record::record;
pub use repository::repository;
pub use seeds::{Seed, seeds};
pub use slot::{secret_text, slot};
pub use stream::{stream, tree};
pub use words::{config, exclude, selector};

/// A target's name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order in which a byte meets them.
pub const TARGETS: [Target; 20] = [
    ("name", name),
    ("frame", frame),
    ("record", record),
    ("object", object),
    ("slot", slot),
    ("secret_text", secret_text),
    ("pack", pack),
    ("segment", segment),
    ("index", index),
    ("stream", stream),
    ("tree", tree),
    ("repository", repository),
    ("conninfo", conninfo),
    ("password_file", password_file),
    ("service_file", service_file),
    ("archive", archive),
    ("script", script),
    ("config", config),
    ("selector", selector),
    ("exclude", exclude),
];
