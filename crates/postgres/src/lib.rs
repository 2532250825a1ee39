//! A PostgreSQL database: one consistent read as streams, restore, scratch clusters.
//!
//! A backup goes: [`resolve`] a connection string into [`Settings`]; [`preflight`] finds the client [`Programs`] and
//! everything that would make a dump fail; [`choose_engine`] says how to read it. [`NativeRead`] fixes the moment T and
//! gives a stream for the schema and one for each table, which count only when [`NativeRead::finish`] says so. Or
//! [`Moment::hold`] fixes T, and [`Dump`] reads the database as one archive, until [`Dump::finish`]. [`globals()`] adds
//! what lives outside the database. A restore is [`restore_archive`], always into a new database;
//! [`restore_foreign`] takes a dump that others made. A [`Cluster`] is a
//! server to throw away.
//!
//! The interface is synchronous. Sessions run on the runtime whose handle is passed in (multi-threaded, with I/O and
//! time enabled), and calls block on it; they must not be made from a thread that drives it.
//!
//! **Invariant**: our own sessions and the child programs use the same [`Settings`], and before a dump or a restore
//! both are asked which server and which database they reach.
//!
//! **Boundary**: this crate knows neither repositories nor chunks; what it gives are streams and plain facts.

mod account;
mod quote;
mod conninfo;
mod passfile;
mod servicefile;
mod tls;
mod settings;
mod resolve;
mod loan;
mod socket;
mod pipe;
mod wire;
mod connect;
mod child;
mod psql;
mod asking;
mod programs;
mod identity;
mod facts;
mod parts;
mod source;
mod file_name;
mod digest;
mod rows;
mod large_object;
mod session;
mod copy_text;
mod catalog;
mod sequences;
mod table_plan;
mod creation;
mod preflight;
mod engine;
mod moment;
mod archive;
mod partitions;
mod wording;
mod assembly;
mod script;
mod rearchive;
mod dump;
mod schema_dump;
mod native;
mod globals;
mod selection;
mod plan;
mod intake;
mod plain;
mod fit;
mod restore_plan;
mod load;
mod verify;
mod sql_statement;
mod sql_text;
mod survey;
mod arrived;
mod statistics;
mod restore;
mod restore_parts;
mod swap;
mod definition;
mod beside;
mod inventory;
mod in_place_plan;
mod in_place;
mod archive_rows;
mod archive_pick;
mod examine;
mod dump_kind;
mod foreign;
mod cluster;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod testing;

pub use archive::{ArchiveError, ArchiveHead, ArchiveSummary};
pub use archive_pick::{ArchivePick, PickedTable};
pub use archive_rows::ArchiveRows;
pub use assembly::AssemblyError;
pub use beside::{BesideError, BesideReport, BesideRestore, restore_beside};
pub use child::{Ended, ProgramError};
pub use cluster::{Cluster, ClusterError, ClusterOptions, ClusterTcp, remove_abandoned};
pub use connect::{ConnectError, Connection, QueryError};
pub use conninfo::ConninfoError;
pub use copy_text::{CopyField, CopyFields, FIELD_BYTES_MAX};
pub use digest::Digester;
pub use digest::RowEnd;
pub use dump::{Dump, DumpError, DumpOptions, DumpReport, RowsWatcher};
pub use dump_kind::{DUMP_HEAD_LEN_BYTES, DumpKind};
pub use engine::{Engine, EngineChoice, EngineWishes, choose_engine};
pub use examine::{
    CountedTable, ExamineError, Examined, ask, examine, lacking_extensions, make_globals,
};
pub use facts::{
    DatabaseFacts, DatabaseGrant, DatabaseSetting, Extension, LocaleProvider, RoleFacts,
    ServerFacts, SourceFacts, Table,
};
pub use file_name::{LARGE_OBJECTS_FOLDER, SCHEMA_FILE, large_object_file, table_file};
pub use foreign::{
    ForeignContent, ForeignError, ForeignReport, ForeignRestore, OpenDump, restore_foreign,
};
pub use globals::{Globals, GlobalsError, globals};
pub use identity::IdentityError;
pub use in_place::{InPlace, InPlaceError, InPlaceReport, Outcome, end_sessions, outcome};
pub use in_place_plan::{InPlacePlan, InPlacePlanError, InPlaceRestore, plan_in_place};
pub use intake::IntakeError;
pub use large_object::{LargeObject, LargeObjectError};
pub use load::LoadError;
pub use moment::{Moment, MomentError, MomentOptions};
pub use native::{
    FileFailure, NativeError, NativeFile, NativeOptions, NativeRead, NativeReport, Stream,
};
pub use parts::{Digest, LargeObjectPart, Parts, SequencePart, TablePart};
pub use plain::{PlainError, write_plain};
pub use plan::{PlanError, RestoreOptions};
pub use preflight::{Finding, Preflight, PreflightError, administration, preflight};
pub use programs::{ProgramVersion, Programs, ProgramsError, ServerPrograms, server_programs};
pub use rearchive::write_archive;
pub use resolve::{Environment, ResolveError, resolve, resolve_via, to_database};
pub use restore::{RestoreError, RestoreFailure, RestoreReport, plan_archive, restore_archive};
pub use restore_parts::{PartsReport, plan_parts, restore_parts};
pub use restore_plan::{ComingTable, PartsRestore, RestorePlan};
pub use rows::{Rows, RowsError};
pub use schema_dump::SchemaDump;
pub use script::{ScriptOptions, write_script};
pub use servicefile::ServiceError;
pub use settings::{Host, Settings};
pub use source::{PartSource, Wanted};
pub use sql_statement::Refusal;
pub use sql_text::SqlTextError;
pub use survey::ScriptError;
pub use swap::{StandingDatabase, SwapError, Swapper};
pub use table_plan::{PlannedTable, TablePlanError};
pub use tls::{ClientIdentity, TlsError, TlsMode, TlsPolicy};
pub use verify::{Difference, Verified, VerifyError, verify_parts};
