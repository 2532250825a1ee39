//! What a verb has at hand: the options that every verb understands, the way to speak, the wish to stop, and what is
//! made of them when first needed.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    directories::{self, Environment},
    error::CommandError,
    interrupt::Interrupt,
    options::GlobalOptions,
    password::{self, Named, Source},
    ui::Ui,
};

/// What a verb has at hand.
pub(crate) struct Context {
    definition: clap::Command,
    global: GlobalOptions,
    ui: Ui,
    interrupt: Interrupt,
}

impl Context {
    /// Nothing is opened or read yet.
    pub(crate) fn new(
        definition: clap::Command,
        global: GlobalOptions,
        ui: Ui,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            definition,
            global,
            ui,
            interrupt,
        }
    }

    /// The whole command line, for what is generated from it.
    pub(crate) fn definition(&self) -> clap::Command {
        self.definition.clone()
    }

    /// Speaks to the caller.
    pub(crate) fn ui(&self) -> &Ui {
        &self.ui
    }

    /// Whether the program was asked to stop.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The folder for what can be rebuilt.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf, CommandError> {
        directories::cache(self.global.cache_dir.as_deref(), environment())
    }

    /// The folder for what must not be lost.
    pub(crate) fn state_folder(&self) -> Result<PathBuf, CommandError> {
        directories::state(environment())
    }

    /// The repository that was named on the command line or in LIFEBOAT_REPOSITORY.
    pub(crate) fn repository(&self) -> Option<&str> {
        self.global.repo.as_deref()
    }

    /// The configuration that was named on the command line or in LIFEBOAT_CONFIG.
    pub(crate) fn configuration(&self) -> Option<&Path> {
        self.global.config.as_deref()
    }

    /// Where the secret comes from; `configured` is what the configuration names.
    pub(crate) fn secret_source(
        &self,
        configured: Option<&Source>,
    ) -> Result<Source, CommandError> {
        let named = Named {
            argument: self.global.password_file.as_deref(),
            configured,
        };
        password::source(named, environment())
    }
}

/// The program's own environment.
pub(crate) fn environment() -> Environment<'static> {
    &|name: &str| -> Option<OsString> { env::var_os(name) }
}
