//! A PostgreSQL database: one consistent read as streams, restore, scratch clusters.

mod account;
mod quote;
mod conninfo;
mod passfile;
mod servicefile;
mod tls;
mod settings;
mod resolve;
mod connect;
mod child;
mod programs;
mod identity;
mod facts;
mod catalog;
mod creation;
mod preflight;
mod moment;
mod archive;
mod dump;
mod globals;
mod selection;
mod plan;
mod intake;
mod restore;
mod cluster;
#[cfg(test)]
mod testing;

pub use archive::{ArchiveError, ArchiveHead, ArchiveSummary};
pub use child::{Ended, ProgramError};
pub use cluster::{Cluster, ClusterError, ClusterOptions, ClusterTcp};
pub use connect::{ConnectError, Connection, QueryError};
pub use conninfo::ConninfoError;
pub use dump::{Dump, DumpError, DumpOptions, DumpReport};
pub use facts::{
    DatabaseFacts, DatabaseGrant, DatabaseSetting, Extension, LocaleProvider, RoleFacts,
    ServerFacts, SourceFacts, Table,
};
pub use globals::{Globals, GlobalsError, globals};
pub use identity::IdentityError;
pub use intake::IntakeError;
pub use moment::{Moment, MomentError, MomentOptions};
pub use plan::{PlanError, RestoreOptions};
pub use preflight::{Finding, Preflight, PreflightError, preflight};
pub use programs::{ProgramVersion, Programs, ProgramsError, ServerPrograms, server_programs};
pub use resolve::{Environment, ResolveError, resolve};
pub use restore::{RestoreError, RestoreFailure, RestoreReport, restore_archive};
pub use servicefile::ServiceError;
pub use settings::{Host, Settings};
pub use tls::{ClientIdentity, TlsError, TlsMode, TlsPolicy};
