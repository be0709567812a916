//! `segl completions SHELL` and `segl man`: both made from the command line's own definition.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell to complete for
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, command: &mut clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
        // Into memory first: the generator panics when its reader goes away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "segl", &mut script);
        out.write_all(&script)?;
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Man {}

impl Man {
    /// One page: the program, then each of its commands.
    pub(super) fn run(&self, command: clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            let named = subcommand.clone().display_name(format!("segl {}", subcommand.get_name()));
            let manual = clap_mangen::Man::new(named);
            manual.render_name_section(&mut page)?;
            manual.render_synopsis_section(&mut page)?;
            manual.render_options_section(&mut page)?;
        }
        out.write_all(&page)?;
        Ok(())
    }
}
