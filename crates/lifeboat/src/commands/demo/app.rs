//! The sample app as a whole: files, SQLite and, where that is installed, PostgreSQL; beside it its twin.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use lifeboat_app::{Bytes, FolderSource, PostgresSource, Source, SqliteSource};
use lifeboat_repository::Progress;

use super::{
    sample::{LOST, Sample},
    server::{DATABASE, Server},
    stage::Stage,
};
use crate::{context::Context, error::CommandError, text::counted};

/// The app, its twin, and its server where there is one.
pub(super) struct App {
    /// Files and rows that are backed up.
    pub(super) sample: Sample,
    /// The same files and rows, made a second time.
    pub(super) twin: Sample,
    /// The PostgreSQL server.
    pub(super) server: Option<Server>,
}

impl App {
    /// Makes all of it in `folder`.
    pub(super) fn make(
        context: &Context,
        stage: &Stage<'_>,
        folder: &Path,
    ) -> Result<Self, CommandError> {
        let born = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
        let (sample, twin, server) = context.ui().watched(|watch| {
            watch.phase("Making a sample app");
            let sample = Sample::make(&folder.join("app"), born)?;
            context.going_on()?;
            watch.phase("Making its twin");
            let twin = Sample::make(&folder.join("twin"), born)?;
            context.going_on()?;
            watch.phase("Starting a PostgreSQL server");
            let server = Server::start();
            context.going_on()?;
            if let Ok(server) = &server {
                server.fill()?;
            }
            Ok::<_, CommandError>((sample, twin, server))
        })?;
        let (files, bytes) = sample.media_size()?;
        let (files, bytes) = (counted(files, "file"), Bytes(bytes));
        let rows = counted(sample.rows()?, "row");
        stage.done(
            "media",
            &format!("{files}, {bytes}: pictures, notes, duplicates, links, awkward names"),
        )?;
        stage.done(
            "SQLite",
            &format!("{rows}, in use; its rows name the media"),
        )?;
        match &server {
            Ok(server) => stage.done(
                "PostgreSQL",
                &format!(
                    "{}, a server to throw away: tables, an enum, large objects",
                    server.version()
                ),
            )?,
            Err(why) => stage.left_out("PostgreSQL", &format!("left out: {why}"))?,
        }
        stage.done(
            "a twin",
            "of files and rows, which no backup sees, to compare with",
        )?;
        Ok(Self {
            sample,
            twin,
            server: server.ok(),
        })
    }

    /// What is backed up.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut sources = vec![
            Source::Folder(FolderSource {
                name: "media".to_owned(),
                path: self.sample.media(),
                exclude: Vec::new(),
                one_file_system: false,
                exclude_caches: false,
                references: Vec::new(),
                bundles: true,
            }),
            Source::Sqlite(SqliteSource {
                name: "sqlite".to_owned(),
                path: self.sample.database(),
            }),
        ];
        sources.extend(self.server.as_ref().map(|server| {
            Source::Postgres(PostgresSource {
                name: lifeboat_app::DATABASE_NAME.to_owned(),
                url: server.address(DATABASE),
                password: None,
                skip_data: Vec::new(),
                pg_dump: false,
                via: Vec::new(),
            })
        }));
        sources
    }

    /// A day passes for the app, not for its twin.
    pub(super) fn change(
        &mut self,
        context: &Context,
        stage: &Stage<'_>,
    ) -> Result<(), CommandError> {
        context.ui().watched(|watch| {
            watch.phase("Changing the sample app");
            self.sample.change()?;
            self.server.as_ref().map_or(Ok(()), Server::change)
        })?;
        stage.done(
            "media",
            "4 pictures come, one is edited, a note grows, another is renamed",
        )?;
        stage.done(
            "SQLite",
            "orders come, ship and go; customers get a phone number",
        )?;
        if self.server.is_some() {
            stage.done(
                "PostgreSQL",
                "rows change, a column comes, a table is dropped",
            )?;
        }
        stage.noticed(
            "by mistake",
            &format!("{LOST} and 6 thumbnails are deleted"),
        )?;
        context.going_on()
    }
}
