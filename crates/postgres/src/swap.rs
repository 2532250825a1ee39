//! Databases that change names: a restored one takes the name of the one that is there, which keeps another.
//!
//! A server renames a database only when nobody is in it. So each is closed first, who is in it is sent away, and all
//! renames are one transaction; whoever opens them again is the caller. Invariant: a database is known by its oid. What
//! has which name is asked of the server each time, so that every step can be done again after a kill.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::{
    connect::{ConnectError, Connection, QueryError, Row},
    quote,
    restore::drop_database,
    restore::send_away,
    settings::Settings,
};

/// Databases to be in while others are renamed. `postgres` may be dropped; `template1` always is there.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// How often a name is tried while somebody is in the database; the server itself waits five seconds each time.
const RENAMES_MAX: u32 = 12;
/// How long is waited for sessions of a killed restore to end.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Databases were not renamed, or not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A database is not there any more.
    #[error("the server has no database with the oid {oid} that is to be called \"{name}\"")]
    Gone {
        /// Its number.
        oid: u32,
        /// What it was to be called.
        name: String,
    },
    /// What a killed run began goes on.
    #[error("the server is still at work for a run that was killed ({0})")]
    AtWork(String),
    /// It was asked to stop.
    #[error("it was asked to stop")]
    Stopped,
}

/// A database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingDatabase {
    /// What it is known by.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Whether it takes connections.
    pub is_open: bool,
    /// Whether the role of this session may rename it.
    pub is_ours: bool,
    /// Sessions in it.
    pub sessions: u64,
    /// Its size, where the role may ask for it.
    pub len_bytes: Option<u64>,
    /// Logical replication slots that belong to it.
    pub slots: Vec<String>,
}

/// A session outside the databases that change names.
pub struct Swapper {
    connection: Connection,
    major: u32,
}

impl Swapper {
    /// Connects to a database of the server that is none of `involved`.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn open(
        settings: &Settings,
        involved: &[&str],
        handle: &Handle,
    ) -> Result<Self, SwapError> {
        let mut places = MAINTENANCE.iter().filter(|name| !involved.contains(name));
        let mut next = places.next().copied().unwrap_or(MAINTENANCE[1]);
        loop {
            let connection = match Connection::open(&settings.with_database(next), handle) {
                Err(ConnectError::Refused { source, .. })
                    if source.is(&SqlState::INVALID_CATALOG_NAME) && next != MAINTENANCE[1] =>
                {
                    next = MAINTENANCE[1];
                    continue;
                }
                connection => connection?,
            };
            let major = connection.server_major()?;
            return Ok(Self { connection, major });
        }
    }

    /// Takes over from runs of the same swap that were killed, and lets later runs know this session by `mark`.
    ///
    /// A statement outlives the program that sent it: a rename that still waits for somebody would happen after all names
    /// were looked at. So sessions with the mark are ended, and that is waited for.
    ///
    /// # Errors
    /// When one of them does not end.
    pub fn take_over(&self, mark: &str) -> Result<(), SwapError> {
        let literal = quote::literal(mark);
        let others = format!("application_name = {literal}");
        self.end_sessions(&others, mark)?;
        let sql = format!("SET application_name = {literal}");
        Ok(self.connection.execute("mark the session", &sql)?)
    }

    /// What tells this server from others, and from itself after it was started again.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn server(&self) -> Result<String, SwapError> {
        let what = "ask the server when it was started";
        let sql = "SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('server_version_num'), \
                   EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()))";
        let row = self.connection.row(what, sql)?;
        let answer = row.into_iter().next().flatten();
        answer.ok_or_else(|| QueryError::shape(what).into())
    }

    /// Why this role cannot make databases and rename them; `None` when it can.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn obstacle(&self) -> Result<Option<String>, SwapError> {
        let what = "ask what the role may do";
        let sql = "SELECT rolsuper OR rolcreatedb, pg_catalog.pg_is_in_recovery(), rolname \
                   FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER";
        let row = self.connection.row(what, sql)?;
        let is = |place: usize| row.get(place).and_then(Option::as_deref) == Some("t");
        let role = row.get(2).cloned().flatten().unwrap_or_default();
        Ok(match (is(0), is(1)) {
            (_, true) => Some("the server is a standby, which makes no databases".to_owned()),
            (false, _) => Some(format!("the role {role} may not make databases")),
            _ => None,
        })
    }

    /// The database of that name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn named(&self, name: &str) -> Result<Option<StandingDatabase>, SwapError> {
        self.find(&format!("d.datname = {}", quote::literal(name)))
    }

    /// The database with that number.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn with_oid(&self, oid: u32) -> Result<Option<StandingDatabase>, SwapError> {
        self.find(&format!("d.oid = {oid}"))
    }

    fn find(&self, condition: &str) -> Result<Option<StandingDatabase>, SwapError> {
        let what = "look for the database";
        let sql = format!(
            "SELECT d.oid, d.datname, d.datallowconn,
                    pg_catalog.pg_has_role(d.datdba, 'USAGE'),
                    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid),
                    CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                         THEN pg_catalog.pg_database_size(d.oid) END,
                    (SELECT pg_catalog.string_agg(slot_name, ' ') FROM pg_catalog.pg_replication_slots s
                      WHERE s.database = d.datname)
               FROM pg_catalog.pg_database d WHERE {condition}"
        );
        let rows = self.connection.rows(what, &sql)?;
        rows.first()
            .map(|row| standing(row).ok_or_else(|| QueryError::shape(what).into()))
            .transpose()
    }

    /// Lets nobody into a database any more, and sends away who is in it.
    ///
    /// # Errors
    /// When the role may not do that.
    pub fn close(&self, name: &str) -> Result<(), SwapError> {
        self.allow_connections(name, false)?;
        Ok(send_away(&self.connection, name)?)
    }

    /// Lets in again whom the database's grants let in.
    ///
    /// # Errors
    /// When the role may not do that.
    pub fn open_up(&self, name: &str) -> Result<(), SwapError> {
        Ok(self.allow_connections(name, true)?)
    }

    fn allow_connections(&self, name: &str, allow: bool) -> Result<(), QueryError> {
        let verb = if allow { "open" } else { "close" };
        let sql = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS {allow}",
            quote::identifier(name)
        );
        self.connection
            .execute(&format!("{verb} the database \"{name}\""), &sql)
    }

    /// Gives databases their names, in this order and in one transaction; what has its name already is passed over.
    /// Each was closed before.
    ///
    /// # Errors
    /// When one of them is not there, somebody stays in it, or `stop` is set while that is waited for. Then no name has
    /// changed.
    pub fn give_names(&self, names: &[(u32, &str)], stop: &AtomicBool) -> Result<(), SwapError> {
        let mut renames = Vec::new();
        let mut present = Vec::new();
        for &(oid, name) in names {
            let gone = || SwapError::Gone {
                oid,
                name: name.to_owned(),
            };
            let database = self.with_oid(oid)?.ok_or_else(gone)?;
            if database.name != name {
                renames.push(format!(
                    "ALTER DATABASE {} RENAME TO {}",
                    quote::identifier(&database.name),
                    quote::identifier(name)
                ));
                present.push(database.name);
            }
        }
        if renames.is_empty() {
            return Ok(());
        }
        // One message is one transaction.
        let sql = renames.join("; ");
        for attempts_left in (0..RENAMES_MAX).rev() {
            if stop.load(Ordering::Relaxed) {
                return Err(SwapError::Stopped);
            }
            for name in &present {
                send_away(&self.connection, name)?;
            }
            match self.connection.execute("rename the databases", &sql) {
                Err(error) if error.is(&SqlState::OBJECT_IN_USE) && attempts_left > 0 => {}
                renamed => return Ok(renamed?),
            }
        }
        Ok(())
    }

    /// Drops a database, if the one with this number has this name.
    ///
    /// # Errors
    /// When the role may not do that.
    pub fn remove(&self, oid: u32, name: &str) -> Result<(), SwapError> {
        match self.with_oid(oid)? {
            Some(database) if database.name == name => {
                Ok(drop_database(&self.connection, name, self.major)?)
            }
            _ => Ok(()),
        }
    }

    /// Drops what a restore into the new database `name`, which was killed, has left: the database, under its own name
    /// or the one that it has until it is whole, also when the server was only just making it.
    ///
    /// # Errors
    /// When the role may not do that, or the server does not end what it does for that restore.
    pub fn remove_made(&self, name: &str) -> Result<(), SwapError> {
        let literal = quote::literal(name);
        self.end_sessions(&format!("pg_catalog.strpos(query, {literal}) > 0"), name)?;
        let sql = format!(
            "SELECT datname FROM pg_catalog.pg_database WHERE datname = {literal} \
             OR pg_catalog.starts_with(datname::text, {literal} || '.')"
        );
        let made = self
            .connection
            .rows("list what the restore has left", &sql)?;
        for database in made.into_iter().flatten().flatten() {
            drop_database(&self.connection, &database, self.major)?;
        }
        Ok(())
    }

    /// Ends sessions, and waits until they have ended; `what` is their work.
    fn end_sessions(&self, condition: &str, what: &str) -> Result<(), SwapError> {
        let sql = format!(
            "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE pid <> pg_catalog.pg_backend_pid() AND {condition}"
        );
        let begun = Instant::now();
        loop {
            let left = self
                .connection
                .rows("end what the server does for a killed run", &sql)?;
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(SwapError::AtWork(what.to_owned()));
            }
            thread::sleep(PAUSE);
        }
    }
}

fn standing(row: &Row) -> Option<StandingDatabase> {
    let text = |place: usize| row.get(place).and_then(Option::as_deref);
    Some(StandingDatabase {
        oid: text(0)?.parse().ok()?,
        name: text(1)?.to_owned(),
        is_open: text(2)? == "t",
        is_ours: text(3)? == "t",
        sessions: text(4)?.parse().ok()?,
        len_bytes: text(5).and_then(|size| size.parse().ok()),
        slots: text(6)
            .map(|slots| slots.split(' ').map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn number(swapper: &Swapper, name: &str) -> u32 {
        swapper.named(name).unwrap().unwrap().oid
    }

    #[test]
    fn two_databases_change_names_at_once_although_somebody_is_in_them() {
        let cluster = testing::cluster();
        let live = testing::database(&cluster, "CREATE TABLE old (x int)");
        let new = testing::database(&cluster, "CREATE TABLE new (x int)");
        let (live, new) = (live.database().to_owned(), new.database().to_owned());
        let kept = testing::unique("kept");
        let swapper = Swapper::open(&cluster.settings(&live), &[&live, &new], testing::runtime());
        let swapper = swapper.unwrap();
        let (old_oid, new_oid) = (number(&swapper, &live), number(&swapper, &new));
        let inside = Connection::open(&cluster.settings(&live), testing::runtime()).unwrap();
        assert_eq!(swapper.named(&live).unwrap().unwrap().sessions, 1);

        swapper.close(&live).unwrap();
        swapper.close(&new).unwrap();
        assert!(inside.rows("look", "SELECT 1").is_err(), "it was sent away");
        let refused = Connection::open(&cluster.settings(&live), testing::runtime());
        assert!(refused.is_err(), "nobody comes in");
        let stop = AtomicBool::new(false);
        let names = [(old_oid, kept.as_str()), (new_oid, live.as_str())];
        for _ in 0..2 {
            swapper.give_names(&names, &stop).unwrap();
            assert_eq!(number(&swapper, &kept), old_oid);
            assert_eq!(number(&swapper, &live), new_oid);
        }
        swapper.open_up(&live).unwrap();
        let inside = Connection::open(&cluster.settings(&live), testing::runtime()).unwrap();
        inside.rows("look", "SELECT x FROM public.new").unwrap();
        assert!(!swapper.named(&kept).unwrap().unwrap().is_open);
    }

    #[test]
    fn no_name_changes_when_one_cannot() {
        let cluster = testing::cluster();
        let database = || testing::database(&cluster, "").database().to_owned();
        let [live, new, other] = [database(), database(), database()];
        let swapper = Swapper::open(&cluster.settings(&live), &[], testing::runtime()).unwrap();
        let (old_oid, new_oid) = (number(&swapper, &live), number(&swapper, &new));
        let kept = testing::unique("kept");
        let stop = AtomicBool::new(false);
        let names = [(old_oid, kept.as_str()), (new_oid, other.as_str())];
        assert!(swapper.give_names(&names, &stop).is_err());
        assert_eq!(number(&swapper, &live), old_oid);
        let gone = swapper.give_names(&[(old_oid, &kept), (u32::MAX, &live)], &stop);
        assert!(matches!(gone, Err(SwapError::Gone { oid: u32::MAX, .. })));
        assert_eq!(number(&swapper, &live), old_oid);
    }

    #[test]
    fn what_a_killed_run_has_sent_is_ended_before_names_are_looked_at() {
        let cluster = testing::cluster();
        let admin = cluster.settings("postgres");
        let (killed, next) = (
            Swapper::open(&admin, &[], testing::runtime()).unwrap(),
            Swapper::open(&admin, &[], testing::runtime()).unwrap(),
        );
        let mark = testing::unique("mark");
        killed.take_over(&mark).unwrap();
        thread::scope(|scope| {
            let slow = scope.spawn(|| killed.connection.execute("wait", "SELECT pg_sleep(600)"));
            next.take_over(&mark).unwrap();
            assert!(slow.join().unwrap().is_err(), "it was ended");
        });
        next.take_over(&mark).unwrap();
        next.named("postgres").unwrap().unwrap();
    }

    #[test]
    fn what_a_killed_restore_left_is_removed_and_nothing_else() {
        let cluster = testing::cluster();
        let name = testing::unique("left");
        let place = format!("{name}.restoring");
        let other = format!("{name}_other");
        let admin = cluster.settings("postgres");
        for database in [&name, &place, &other] {
            testing::run(&admin, &format!("CREATE DATABASE \"{database}\""));
        }
        let swapper = Swapper::open(&admin, &[], testing::runtime()).unwrap();
        swapper.remove_made(&name).unwrap();
        assert_eq!(swapper.named(&name).unwrap(), None);
        assert_eq!(swapper.named(&place).unwrap(), None);
        let other = swapper.named(&other).unwrap().unwrap();
        swapper.remove(other.oid, "another name").unwrap();
        assert!(swapper.with_oid(other.oid).unwrap().is_some());
        swapper.remove(other.oid, &other.name).unwrap();
        assert!(swapper.with_oid(other.oid).unwrap().is_none());
    }
}
