//! What a verb has at hand: the options that every verb understands, the way to speak, the wish to stop, and what is
//! made of them when it is first needed.
//!
//! Here the order argument, environment, file is kept for everything but the secret, which has its own file.

use std::{
    cell::OnceCell,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::tz::TimeZone;
use lifeboat_app::{AppConfig, Config, HistoryError, OpenedBy};
use lifeboat_codec::Role;
use lifeboat_repository::{Repository, Surroundings, Unlock};
use lifeboat_store::{Location, RehearsalStore, Store};
use tokio::runtime::{Handle, Runtime};
use zeroize::Zeroizing;

use crate::{
    directories::{self, Environment},
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    interrupt::Interrupt,
    options::GlobalOptions,
    password::{self, Credential, Named, Source},
    text::sentence,
    ui::Ui,
};

/// Where content lies in a store.
const DATA_PACKS: &str = "packs/d/";

/// What a verb has at hand.
pub(crate) struct Context {
    definition: clap::Command,
    global: GlobalOptions,
    ui: Ui,
    interrupt: Interrupt,
    configuration: OnceCell<Configuration>,
    runtime: OnceCell<Runtime>,
}

/// The configuration, and where it was found.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    /// The file; nothing when there is none, and then nothing is configured.
    pub(crate) file: Option<PathBuf>,
    /// What it says.
    pub(crate) config: Config,
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
            configuration: OnceCell::new(),
            runtime: OnceCell::new(),
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

    /// Fails once the program was asked to stop, for work of many short steps.
    pub(crate) fn going_on(&self) -> Result<(), CommandError> {
        self.interrupt.as_error().map_or(Ok(()), Err)
    }

    /// The configuration, read once; its warnings are said then.
    pub(crate) fn configuration(&self) -> Result<&Configuration, CommandError> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let file = Config::default_path(self.global.config.as_deref(), |name| env::var_os(name));
        let config = match &file {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        for warning in &config.warnings {
            self.ui.warning(warning);
        }
        Ok(self
            .configuration
            .get_or_init(|| Configuration { file, config }))
    }

    /// The app of that name in the configuration. `hint` says what to do where there is another one, `without` what can be
    /// done without any configuration.
    pub(crate) fn app(
        &self,
        name: &str,
        hint: &str,
        without: &str,
    ) -> Result<&AppConfig, CommandError> {
        let Configuration { file, config } = self.configuration()?;
        config.app(name).map_err(|error| match file {
            Some(_) => CommandError::from_error(ExitCode::Usage, &error).hint(hint),
            None => CommandError::usage(format!(
                "there is no lifeboat.toml, which would say what the app {name} is"
            ))
            .hint(format!(
                "Begin one with `lifeboat config init lifeboat.toml`, or name one with -c.{without}"
            )),
        })
    }

    /// Where the repository lies; nothing when nobody names one.
    pub(crate) fn location_if_named(&self) -> Result<Option<Location>, CommandError> {
        // A variable that is set to nothing is a way to say that there is none.
        if let Some(repo) = self.global.repo.as_deref().filter(|repo| !repo.is_empty()) {
            return Ok(Some(repo.parse()?));
        }
        let repository = self.configuration()?.config.repository.as_ref();
        Ok(repository.map(|repository| repository.location.clone()))
    }

    /// Where the repository lies.
    pub(crate) fn location(&self) -> Result<Location, CommandError> {
        self.location_if_named()?.ok_or_else(|| {
            CommandError::usage("no repository is named").hint(
                "Name it with -r, with LIFEBOAT_REPOSITORY, or as repository.location in lifeboat.toml.",
            )
        })
    }

    /// Where the secret comes from.
    pub(crate) fn secret_source(&self) -> Result<Source, CommandError> {
        // What was named on the command line or in the environment goes before a configuration that may be wrong.
        let argument = self.global.password_file.as_deref();
        let repository = self.configuration()?.config.repository.as_ref();
        let configured = repository
            .and_then(|repository| repository.opened_by.as_ref())
            .map(|opened_by| match opened_by {
                OpenedBy::PassphraseFile(path) => Source::File(path.clone()),
                OpenedBy::PassphraseCommand(words) => Source::Command(words.clone()),
                OpenedBy::KeyFile(path) => Source::KeyFile(path.clone()),
            });
        let named = Named {
            argument,
            configured: configured.as_ref(),
        };
        password::source(named, environment())
    }

    /// The secret that opens the repository.
    pub(crate) fn credential(&self) -> Result<Credential, CommandError> {
        self.secret_source()?.read(environment(), &self.interrupt)
    }

    /// The secret that opens a second repository; nothing when it has none of its own.
    pub(crate) fn other_credential(
        &self,
        argument: Option<&Path>,
    ) -> Result<Option<Credential>, CommandError> {
        password::other_source(argument, environment())?
            .map(|source| source.read(environment(), &self.interrupt))
            .transpose()
    }

    /// The passphrase of something that is to be created.
    pub(crate) fn new_passphrase(
        &self,
        source: &Source,
    ) -> Result<Zeroizing<String>, CommandError> {
        source.read_new(environment(), &self.interrupt)
    }

    /// Opens the repository.
    pub(crate) fn open_repository(&self) -> Result<Repository, CommandError> {
        let store = self.open_store(&self.location()?)?;
        self.unlock(store, &self.credential()?)
    }

    /// Opens the repository for a verb that looks into snapshots.
    pub(crate) fn open_to_read(&self) -> Result<Repository, CommandError> {
        let repository = self.open_repository()?;
        may_read(&repository)?;
        Ok(repository)
    }

    /// Opens the repository for a rehearsal: nothing is written to it, and of this machine only `state` is used.
    pub(crate) fn rehearse_repository(&self, state: &Path) -> Result<Repository, CommandError> {
        let store = self.open_store(&self.location()?)?;
        // Content that was only just packed is not read again; what else is put is small.
        let store = RehearsalStore::new(store, |name| name.as_str().starts_with(DATA_PACKS));
        let surroundings = Surroundings::system(None, state.to_path_buf());
        self.unlock_with(Arc::new(store), &self.credential()?, surroundings)
    }

    /// Opens the storage below a repository.
    pub(crate) fn open_store(&self, location: &Location) -> Result<Arc<dyn Store>, CommandError> {
        Ok(lifeboat_store::open(location)?.into())
    }

    /// Passes on what the storage of a repository warns about. Advice about a folder is only given once it is known to
    /// be a repository.
    pub(crate) fn warn_of_store(&self, store: &dyn Store) {
        for warning in store.abilities().warnings {
            self.ui.warning(&warning);
        }
    }

    /// Opens the repository in `store`.
    pub(crate) fn unlock(
        &self,
        store: Arc<dyn Store>,
        credential: &Credential,
    ) -> Result<Repository, CommandError> {
        self.unlock_with(store, credential, self.surroundings()?)
    }

    fn unlock_with(
        &self,
        store: Arc<dyn Store>,
        credential: &Credential,
        surroundings: Surroundings,
    ) -> Result<Repository, CommandError> {
        let unlock = match credential {
            Credential::Passphrase(words) => Unlock::Passphrase(words.as_bytes()),
            Credential::KeyFile(file) => Unlock::KeyFile(file),
            Credential::Recovery(secret) => Unlock::Recovery(secret),
        };
        let repository = Repository::open(store, &unlock, surroundings)?;
        self.warn_of_store(repository.store());
        Ok(repository)
    }

    /// The clock, randomness and folders of this machine.
    pub(crate) fn surroundings(&self) -> Result<Surroundings, CommandError> {
        Ok(Surroundings::system(
            Some(self.cache_folder()?),
            self.state_folder()?,
        ))
    }

    /// The folder for what can be rebuilt.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf, CommandError> {
        let chosen = self.global.cache_dir.as_deref();
        let chosen = chosen.filter(|folder| *folder != Path::new(""));
        directories::cache(chosen, environment())
    }

    /// The folder for what must not be lost.
    pub(crate) fn state_folder(&self) -> Result<PathBuf, CommandError> {
        directories::state(environment())
    }

    /// The zone in which times are read and shown, where an app has none of its own.
    pub(crate) fn time_zone(&self) -> Result<TimeZone, CommandError> {
        let configured = self.configuration()?.config.time_zone.clone();
        Ok(configured.unwrap_or_else(TimeZone::system))
    }

    /// What the history calls the repository; nothing where none is named. It is one name from whatever folder it was given,
    /// and no link is resolved for it, since a disk may not be mounted.
    pub(crate) fn kept_location(&self) -> String {
        // What is wrong with the configuration or the surroundings is said by the verb, which needs them itself.
        match self.location_if_named().ok().flatten() {
            Some(Location::Folder(path)) => {
                let whole = std::path::absolute(&path).unwrap_or(path);
                Location::Folder(whole).to_string()
            }
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Writes into this machine's history that a run begins.
    pub(crate) fn begin_run(&self, verb: &str) {
        let repository = self.kept_location();
        let Ok(folder) = self.state_folder() else {
            return;
        };
        match self.ui.record().begin(&folder, verb, &repository) {
            Ok(note) => note.iter().for_each(|note| self.ui.warning(note)),
            Err(error) => self.warn_unwritten(&error),
        }
    }

    /// Writes into the history how the run ended that goes on, if one does.
    pub(crate) fn end_run(&self, code: ExitCode) {
        if let Err(error) = self.ui.record().finish(code) {
            self.warn_unwritten(&error);
        }
    }

    fn warn_unwritten(&self, error: &HistoryError) {
        let error = CommandError::new(ExitCode::Failed, "this run is not wholly in the history")
            .caused_by(error);
        self.ui.warning(&sentence(&error.facts().message));
    }

    /// The runtime for what waits for networks, built when first needed.
    pub(crate) fn runtime(&self) -> Result<&Handle, CommandError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime.handle());
        }
        let runtime = Runtime::new().or_fail(ExitCode::Failed, || {
            "threads for the network cannot be started".to_owned()
        })?;
        Ok(self.runtime.get_or_init(|| runtime).handle())
    }
}

/// Refuses a key to which every snapshot would look damaged, since it opens none.
pub(crate) fn may_read(repository: &Repository) -> Result<(), CommandError> {
    if repository.role() != Role::WriteOnly {
        return Ok(());
    }
    Err(CommandError::new(
        ExitCode::WrongKey,
        "this key makes backups and reads nothing",
    )
    .hint("Use a key that may do everything; `lifeboat verify-store` needs none at all."))
}

/// The program's own environment.
pub(crate) fn environment() -> Environment<'static> {
    &|name: &str| -> Option<OsString> { env::var_os(name) }
}
