//! `forebay completions SHELL`.

use clap::CommandFactory as _;

use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "forebay", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
