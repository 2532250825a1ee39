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
mod catalog;
mod preflight;
mod moment;
mod cluster;
#[cfg(test)]
mod testing;

pub use catalog::{
    DatabaseFacts, DatabaseGrant, DatabaseSetting, Extension, LocaleProvider, RoleFacts,
    ServerFacts, Table,
};
pub use child::{Ended, ProgramError};
pub use cluster::{Cluster, ClusterError, ClusterOptions, ClusterTcp};
pub use connect::{ConnectError, Connection, QueryError};
pub use conninfo::ConninfoError;
pub use identity::IdentityError;
pub use moment::{Moment, MomentError, MomentOptions, SourceFacts};
pub use preflight::{Finding, Preflight, PreflightError, preflight};
pub use programs::{ProgramVersion, Programs, ProgramsError, ServerPrograms, server_programs};
pub use resolve::{Environment, ResolveError, resolve};
pub use servicefile::ServiceError;
pub use settings::{Host, Settings};
pub use tls::{ClientIdentity, TlsError, TlsMode, TlsPolicy};
