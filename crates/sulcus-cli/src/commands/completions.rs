//! `sulcus completions`: prints a completion script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::error::CliError;
use crate::output;

pub(crate) fn run(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sulcus", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
