//! The life of one app: configuration, backup, restore.

// In the order of dependence: a module uses only those above it.
#[cfg(test)]
mod testing;
mod spelling;
mod redact;
mod display;
mod config;
mod selector;
mod history;
mod text;
mod entry;
mod bundle;
mod browse;
mod growth;
mod earlier;
mod memory;
mod references;
mod file;
mod folder;
mod parts;
mod facts;
mod patient;
mod source;
mod sqlite;
mod postgres;
mod preflight;
mod backup;
mod restore;
mod stored;
mod database;
mod foreign;
mod swap;
mod drill;

pub use backup::{
    BackupError, BackupOutcome, BackupRequest, backup, host_name, number_of, user_name,
};
pub use browse::{
    Change as TreeChange, Differing, Differs, Found, Item, Lists, PathError, Step, diff, find_item,
    told_unread, walk_tree,
};
pub use bundle::{BundleCounts, copy_content};
pub use config::{
    AppConfig, CommandSource, Config, ConfigError, ConfigProblem, CopyConfig, DATABASE_NAME,
    DrillBody, DrillCheck, DrillCommand, DrillConfig, DrillService, DrillTake, DrillUrl, EditError,
    FILE_NAME, FolderSource, InvalidName, OpenedBy, Place, PostgresSource, ReferenceColumn,
    RepositoryConfig, SECRETS_NAME, Secret, SecretError, SecretsSource, SourceConfig, SqliteSource,
    UnknownApp, add_app, check_app_name, config_template, explain_key, remove_app,
};
pub use database::{
    DatabaseError, DatabaseReport, DatabaseRequest, DumpFormat, ForeseenDatabase, dump_database,
    foresee_database, restore_database,
};
pub use display::{Bytes, Elapsed, clock_time};
pub use drill::{
    DrillError, DrillReport, DrillRequest, DrillStep, DrilledCheck, DrilledDatabase, DrilledFiles,
    DrilledReferences, DrilledTable, KeptDrill, SignedDrill, Verdict, drill, drill_page, drilled,
    keep_drill, signed_drills,
};
pub use entry::FileContent;
pub use folder::FolderError;
pub use foreign::{ForeignDumpError, ForeignRequest, ForeignSource, dump_in, restore_foreign_dump};
pub use growth::{Grown, GrowthPart, growth};
pub use history::{History, HistoryError, Run, RunFacts, RunRecord, RunState};
pub use preflight::{TestProblem, TestResult, app_test};
pub use redact::{redact, redact_arguments};
pub use references::{CARRIED_FILE, ReferenceCounts};
pub use restore::{RestoreError, RestoreOutcome, RestoreRequest, restore};
pub use selector::{
    Choice, RESTORE_POINT, Selector, SelectorError, SnapshotSummary, is_whole, only_sources,
    only_tags,
};
pub use source::{ENGINE_BECAUSE, PG_DUMP_SAID, SECRET_VARIABLES, Source, SourceError};
pub use spelling::nearest;
pub use stored::StoredError;
pub use swap::{
    InPlaceWish, JournalError, KeptSwap, LockError, Migrated, Migrations, Phase as SwapPhase,
    PlaceError, PlannedTarget, Ready as ReadySwap, Side as SwapSide, SwapError, SwapOptions,
    SwapPlan, SwapRequest, Swapped, Swaps, TargetKind, plan_swap, refuse_newer,
};
pub use text::{sentence, shown_path};
