//! The `sulcus` command line.
//!
//! `args` parses the command line, `commands` has one file or folder per command, and this file decides on exit codes: 0
//! all done, 1 something failed, 2 wrong usage. `output` prints data to standard output and everything for people to standard
//! error, `error` adds hints to the errors of the libraries, and `environment` reads environment variables.

mod allocator;
mod args;
mod commands;
mod environment;
mod error;
mod figure;
mod files;
mod folder_lock;
mod input;
mod interrupt;
mod memory;
mod ort_library;
mod ort_package;
mod output;
mod report;
mod scores;
mod signals;
mod tiny;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Arguments, Command, ImportCommand, RuntimeCommand};
use crate::environment::Environment;
use crate::error::CliError;
use crate::output::Ui;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return print_usage(&error),
    };
    let environment = Environment::read();
    signals::file_size_limit_is_an_error();
    start_log(&arguments, &environment);
    let ui = Ui::new(arguments.global.quiet, environment.no_color);
    match run(&arguments, &environment, ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.failure(&error);
            match error {
                CliError::Usage { .. } => ExitCode::from(2),
                CliError::Failed { .. } | CliError::SomeFailed { .. } | CliError::Stopped { .. } => {
                    ExitCode::from(1)
                }
            }
        }
    }
}

fn run(arguments: &Arguments, environment: &Environment, ui: Ui) -> Result<(), CliError> {
    let library = || ort_library::search(arguments.global.ort_lib.as_deref(), environment);
    match &arguments.command {
        Command::Demo(args) => commands::demo::run(args, &library(), ui),
        Command::Plan(args) => commands::plan::run(args, ui),
        Command::Train(args) => commands::train::run(args, &library(), ui),
        Command::Export(args) => commands::export::run(args, &library(), ui),
        Command::Import(ImportCommand::Nnunet(args)) => commands::import::nnunet(args, &library(), ui),
        Command::Import(ImportCommand::Totalsegmentator(args)) => {
            commands::import::totalsegmentator(args, &library(), ui)
        }
        Command::Pack(args) => commands::pack::run(args, ui),
        Command::Predict(args) => commands::predict::run(args, library(), environment, ui),
        Command::Evaluate(args) => commands::evaluate::run(args, ui),
        Command::Figure(args) => commands::figure::run(args, ui),
        Command::Info(args) => commands::info::run(args, ui),
        Command::Convert(args) => commands::convert::run(args, ui),
        Command::Mesh(args) => commands::mesh::run(args, ui),
        Command::View(args) => commands::view::run(args, ui),
        Command::Serve(args) => commands::serve::run(args, environment, library(), ui),
        Command::Doctor(args) => commands::doctor::run(args, &library(), ui),
        Command::Runtime(RuntimeCommand::Install(args)) => commands::runtime_install::run(args, environment, ui),
        Command::Completions { shell } => commands::completions::run(*shell),
    }
}

/// Prints help and version on standard output with exit code 0, and usage errors on standard error with exit code 2.
fn print_usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is not a failure.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// `serve` logs each request with its time, unless it is quiet: the audit log.
fn start_log(arguments: &Arguments, environment: &Environment) {
    let audits = matches!(arguments.command, Command::Serve(_)) && !arguments.global.quiet;
    let level = match arguments.global.verbose {
        0 if !audits => LevelFilter::WARN,
        0 | 1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let color = !environment.no_color && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(color);
    let log = log.with_target(false);
    if audits { log.init() } else { log.without_time().init() }
}
