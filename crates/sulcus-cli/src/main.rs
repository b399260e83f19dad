//! The `sulcus` command line.
//!
//! [`args`] turns words into values, one file of [`commands`] does each command's work, and this file alone decides
//! on exit codes: 0 all done, 1 something failed, 2 wrong usage. Data goes to stdout through [`output`], everything
//! for people to stderr through [`ui`], and the environment is read in [`environment`] alone.

mod allocator;
mod args;
mod canvas;
mod cases;
mod commands;
mod computing;
mod environment;
mod error;
mod exporting;
mod files;
mod hints;
mod interrupt;
mod label_file;
mod memory;
mod ort_library;
mod output;
mod render;
mod report;
mod scans;
mod scores;
mod server;
mod tiny;
mod training;
mod ui;
mod values;
mod wheel;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Arguments, Command, RuntimeCommand};
use crate::environment::Environment;
use crate::error::CliError;
use crate::ui::Ui;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(stop) => return say_usage(&stop),
    };
    let environment = Environment::read();
    start_log(arguments.global.verbose, &environment);
    let ui = Ui::new(arguments.global.quiet, environment.no_color);
    match run(&arguments, &environment, ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.failure(&error);
            match error {
                CliError::ClosedPipe => ExitCode::SUCCESS,
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
        Command::Train(args) if commands::cross_validation::is_meant(args) => {
            commands::cross_validation::run(args, &library(), ui)
        }
        Command::Train(args) => commands::train::run(args, &library(), ui),
        Command::Export(args) => commands::export::run(args, &library(), ui),
        Command::Predict(args) => commands::predict::run(args, library(), environment, ui),
        Command::Evaluate(args) => commands::evaluate::run(args, ui),
        Command::Figure(args) => commands::figure::run(args, ui),
        Command::Info(args) => commands::info::run(args, ui),
        Command::Convert(args) => commands::convert::run(args, ui),
        Command::View(args) => commands::view::run(args, ui),
        Command::Serve(args) => commands::serve::run(args, environment, library(), ui),
        Command::Doctor(args) => commands::doctor::run(args, &library(), ui),
        Command::Runtime(RuntimeCommand::Install(args)) => commands::runtime_install::run(args, environment, ui),
        Command::Completions { shell } => commands::completions::run(*shell),
    }
}

/// Help and version go to stdout with exit code 0, wrong usage to stderr with 2. A closed pipe is nobody's failure.
fn say_usage(stop: &clap::Error) -> ExitCode {
    let _ = stop.print();
    ExitCode::from(if stop.use_stderr() { 2 } else { 0 })
}

fn start_log(verbose: u8, environment: &Environment) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let color = !environment.no_color && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .without_time()
        .with_target(false)
        .init();
}
