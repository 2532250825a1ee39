//! One binary for every test that needs the program itself, or more than one crate.
//!
//! Tests of one crate stand in that crate, close to the code. A file here is one concept of the whole; it is declared
//! below, in alphabetical order, and `tidy` fails when one is forgotten. `support` is what they share.

#![cfg(test)]

mod asking;
mod bad_input;
mod bundles;
mod crash;
mod damage;
mod drill;
mod drill_urls;
mod engines;
mod failing_programs;
mod faults;
mod foreign;
mod growth;
mod history;
mod in_place;
mod keys;
mod newest;
mod nights;
mod postgres;
mod reader;
mod reading;
mod references;
mod restore;
mod restore_app;
mod roundtrip;
mod scale;
mod sources;
mod status;
mod support;
mod tidy;
mod via;
mod writers;
