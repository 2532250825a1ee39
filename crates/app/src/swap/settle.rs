//! Makes one side live, from wherever things stand: closed, renamed, exchanged, opened.
//!
//! Invariant: between the first rename and the last nobody is in a database that is swapped. Each step looks who has which
//! name and does what lacks, so that all of it can be done again, in either direction, after a kill anywhere.

use std::fs;
use std::sync::atomic::AtomicBool;

use lifeboat_files::mounts_within;
use lifeboat_postgres::{Settings, Swapper, resolve};
use tokio::runtime::Handle;

use super::SwapError;
use super::journal::{DatabaseItem, Journal, PlaceItem, PlaceKind, Side};
use super::lock::lock;
use super::place::{PlaceError, SIDECARS, inode_at, with_ending};
use crate::config::{AppConfig, PostgresSource, SourceConfig};
use crate::postgres::postgres_settings;
use crate::restore::repository_within;

/// How the servers of an app are reached.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    /// The app, as it is configured now.
    pub(super) app: &'a AppConfig,
    /// The address of somebody who may rename databases, where the app's own role may not.
    pub(super) admin: Option<&'a str>,
    /// What sessions run on.
    pub(super) runtime: &'a Handle,
}

impl<'a> Ways<'a> {
    /// The configured database that a source reads.
    pub(super) fn source(&self, name: &str) -> Result<&'a PostgresSource, SwapError> {
        let named = |source: &'a SourceConfig| match source {
            SourceConfig::Postgres(source) if source.name == name => Some(source),
            _ => None,
        };
        let mut sources = self.app.sources.iter();
        sources
            .find_map(named)
            .ok_or_else(|| SwapError::NotConfigured(name.to_owned()))
    }

    /// The address by which a source's server is reached, and what it resolves to.
    pub(super) fn settings(
        &self,
        source: &'a PostgresSource,
    ) -> Result<(&'a str, Settings), SwapError> {
        let environment = |name: &str| std::env::var_os(name);
        match self.admin {
            Some(admin) => Ok((admin, resolve(admin, &environment)?)),
            None => Ok((&source.url, postgres_settings(source, &environment)?)),
        }
    }

    /// A session with the server of a database that is swapped.
    fn swapper(&self, item: &DatabaseItem) -> Result<Swapper, SwapError> {
        let (_, settings) = self.settings(self.source(&item.source)?)?;
        let involved = [&item.live, &item.new, &item.old].map(String::as_str);
        Ok(Swapper::open(&settings, &involved, self.runtime)?)
    }
}

impl DatabaseItem {
    /// The database of a side.
    pub(super) fn oid(&self, side: Side) -> Option<u32> {
        match side {
            Side::Old => self.old_oid,
            Side::New => self.new_oid,
        }
    }

    /// Its name while it is not live.
    pub(super) fn rest(&self, side: Side) -> &str {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }

    fn is_settled(&self, side: Side, swapper: &Swapper) -> Result<bool, SwapError> {
        let has = |side: Side, name: &str| -> Result<bool, SwapError> {
            Ok(match self.oid(side) {
                Some(oid) => swapper
                    .with_oid(oid)?
                    .is_none_or(|database| database.name == name),
                None => true,
            })
        };
        Ok(has(side, &self.live)? && has(side.other(), self.rest(side.other()))?)
    }
}

/// One server, and the databases on it that are swapped.
struct Server<'a> {
    id: String,
    swapper: Swapper,
    items: Vec<&'a DatabaseItem>,
}

fn servers<'a>(journal: &'a Journal, ways: Ways<'_>) -> Result<Vec<Server<'a>>, SwapError> {
    let mut servers: Vec<Server<'a>> = Vec::new();
    for item in &journal.databases {
        let swapper = ways.swapper(item)?;
        let id = swapper.server()?;
        match servers.iter_mut().find(|server| server.id == id) {
            Some(server) => server.items.push(item),
            None => servers.push(Server {
                id,
                swapper,
                items: vec![item],
            }),
        }
    }
    Ok(servers)
}

impl Server<'_> {
    fn close(&self) -> Result<(), SwapError> {
        for item in &self.items {
            for oid in [item.old_oid, item.new_oid].into_iter().flatten() {
                if let Some(database) = self.swapper.with_oid(oid)? {
                    self.swapper.close(&database.name)?;
                }
            }
        }
        Ok(())
    }

    fn rename(&self, side: Side, stop: &AtomicBool) -> Result<(), SwapError> {
        let mut names = Vec::new();
        // A name is given once it is free.
        for item in &self.items {
            let other = side.other();
            if let Some(oid) = item.oid(other)
                && self.swapper.with_oid(oid)?.is_some()
            {
                names.push((oid, item.rest(other)));
            }
        }
        for item in &self.items {
            names.extend(item.oid(side).map(|oid| (oid, item.live.as_str())));
        }
        Ok(self.swapper.give_names(&names, stop)?)
    }

    fn open_up(&self, side: Side) -> Result<(), SwapError> {
        for item in self.items.iter().filter(|item| item.oid(side).is_some()) {
            self.swapper.open_up(&item.live)?;
        }
        Ok(())
    }
}

/// Makes `journal.live` live.
pub(super) fn settle(
    journal: &Journal,
    ways: Ways<'_>,
    stop: &AtomicBool,
) -> Result<(), SwapError> {
    let side = journal.live;
    let servers = servers(journal, ways)?;
    for server in &servers {
        // The name beside has something random in it, and is the same for all runs that end this swap.
        server.swapper.take_over(&server.items[0].new)?;
    }
    if !is_settled(journal, &servers)? {
        for server in &servers {
            server.close()?;
        }
        let mut locks = Vec::new();
        for path in &journal.locks {
            locks.extend(lock(path)?);
        }
        for server in &servers {
            server.rename(side, stop)?;
        }
        for place in &journal.places {
            place.settle(side)?;
        }
    }
    // Whoever waited for a lock finds the other database by now.
    for server in &servers {
        server.open_up(side)?;
    }
    Ok(())
}

fn is_settled(journal: &Journal, servers: &[Server<'_>]) -> Result<bool, SwapError> {
    for server in servers {
        for item in &server.items {
            if !item.is_settled(journal.live, &server.swapper)? {
                return Ok(false);
            }
        }
    }
    for place in &journal.places {
        if !place.is_settled(journal.live)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what a restore beside has left that never became live. Nothing else can have the names: they were drawn at
/// random, and nothing had them when the journal was begun.
pub(super) fn remove_half_made(journal: &Journal, ways: Ways<'_>) -> Result<(), SwapError> {
    for item in &journal.databases {
        ways.swapper(item)?.remove_made(&item.new)?;
    }
    for place in &journal.places {
        if place.inside {
            place.remove_unused_holder()?;
            continue;
        }
        remove(&place.new)?;
        remove(&with_ending(&place.new, UNPACKED))?;
    }
    Ok(())
}

/// Where an SQLite database is unpacked before it gets its name.
pub(super) const UNPACKED: &str = ".folder";

/// Removes the side that is not live.
pub(super) fn remove_other(journal: &Journal, ways: Ways<'_>) -> Result<(), SwapError> {
    let other = journal.live.other();
    // What keeps one of them from going is found before the first goes.
    for place in &journal.places {
        look_into(place, other)?;
    }
    for item in &journal.databases {
        if let Some(oid) = item.oid(other) {
            ways.swapper(item)?.remove(oid, item.rest(other))?;
        }
    }
    for place in &journal.places {
        remove_place(place, other)?;
    }
    Ok(())
}

/// Whether a side of a place is where it rests.
fn rests(place: &PlaceItem, side: Side) -> Result<bool, PlaceError> {
    let inode = inode_at(place.rest(side))?;
    Ok(place.inside || (inode.is_some() && inode == place.inode(side)))
}

/// An error when something is in a side of a place that nobody may remove.
fn look_into(place: &PlaceItem, side: Side) -> Result<(), SwapError> {
    if !rests(place, side)? || place.kind != PlaceKind::Folder {
        return Ok(());
    }
    let path = place.rest(side);
    if let Some(repository) = repository_within(path).map_err(PlaceError::from)? {
        return Err(SwapError::Repository(repository));
    }
    let mounts = mounts_within(path).map_err(PlaceError::from)?;
    match mounts.into_iter().next() {
        Some(mounted) => Err(SwapError::Mounted(mounted)),
        None => Ok(()),
    }
}

fn remove_place(place: &PlaceItem, side: Side) -> Result<(), SwapError> {
    if !rests(place, side)? {
        return Ok(());
    }
    if place.inside {
        return Ok(place.remove_holder(side.other())?);
    }
    let path = place.rest(side);
    remove(path)?;
    if place.kind == PlaceKind::Sqlite {
        for ending in SIDECARS {
            remove(&with_ending(path, ending))?;
        }
    }
    Ok(())
}

/// Removes a file, or a folder with everything in it; nothing there is fine.
fn remove(path: &std::path::Path) -> Result<(), SwapError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SwapError::Remove {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
