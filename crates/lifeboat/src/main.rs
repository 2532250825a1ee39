//! The program `lifeboat`: reads the command line, runs one verb, says how it ended.

// In the order of dependence: a module uses only those above it.
mod exit_code;
mod text;
mod table;
mod error;
mod record;
mod tally;
mod ui;
mod usage;
mod options;
mod interrupt;
mod prompt;
mod directories;
mod password;
mod library_errors;
mod context;
mod selection;
mod commands;
mod cli;

use std::{env, ffi::OsString, process};

use cli::{Cli, NoCommand};
use context::Context;
use error::CommandError;
use exit_code::ExitCode;
use interrupt::Interrupt;
use ui::Ui;

fn main() -> process::ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    match cli::parse(&words) {
        Ok(cli) => run(cli),
        Err(NoCommand::Asked(text)) => {
            // A reader that went away has read enough of a help text.
            let _ = text.print();
            if text.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Done
            }
        }
        Err(NoCommand::Wrong(wrong)) => {
            Ui::new(wrong.manner()).failure(&wrong.to_error());
            ExitCode::Usage
        }
    }
    .into()
}

fn run(cli: Cli) -> ExitCode {
    let mut manner = cli.global.manner();
    manner.stdout_is_content = cli
        .command
        .as_ref()
        .is_some_and(commands::Command::prints_content);
    let ui = Ui::new(manner);
    let Some(command) = cli.command else {
        // A script that lost its verb must not take the overview for success.
        return ui
            .stdout(|out| out.write_all(cli::overview().as_bytes()))
            .map_or_else(|error| error.code(), |()| ExitCode::Usage);
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            ui.failure(
                &CommandError::new(ExitCode::Failed, "signals cannot be received")
                    .caused_by(&error),
            );
            return ExitCode::Failed;
        }
    };
    let context = Context::new(cli::definition(), cli.global, ui, interrupt);
    if let Some(verb) = command.kept_as() {
        context.begin_run(verb);
    }
    let code = match command.run(&context) {
        Ok(code) => code,
        Err(error) => {
            // Work that was asked to stop fails in many ways; they all mean this one.
            let error = match context.interrupt().as_error() {
                Some(stopped) if !error.stays() => stopped.hint(command.when_stopped()),
                _ => error,
            };
            context.ui().failure(&error);
            error.code()
        }
    };
    context.end_run(code);
    code
}
