use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::failure::Failure;

/// Longer answers than this are a pasted file.
const LONGEST: usize = 4096;

/// Questions to the person at the terminal. Where there is none, each question is answered by its option, or not at all.
pub(super) struct Dialogue {
    at_terminal: bool,
}

impl Dialogue {
    /// Asks when standard input and standard error lead to a person.
    pub(super) fn at_terminal() -> Self {
        Self { at_terminal: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    pub(super) fn has_person(&self) -> bool {
        self.at_terminal
    }

    /// Something that a person should know.
    pub(super) fn say(&self, line: &str) {
        if self.at_terminal {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// The answer, or `usual` for an empty one. `option` answers where nobody is asked.
    pub(super) fn ask(
        &mut self,
        question: &str,
        usual: Option<&str>,
        option: &str,
    ) -> Result<String, Failure> {
        match self.ask_maybe(question, usual)? {
            Some(answer) => Ok(answer),
            None => match usual {
                Some(usual) => Ok(usual.to_owned()),
                None => Err(Failure::needs_person(
                    format!("nobody answers: {question}"),
                    format!("Give {option}, or run this at a terminal."),
                )),
            },
        }
    }

    /// The answer; `None` for an empty one without a usual one, and where nobody is asked.
    pub(super) fn ask_maybe(
        &mut self,
        question: &str,
        usual: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        if !self.at_terminal {
            return Ok(None);
        }
        let hint = usual.map(|usual| format!(" [{usual}]")).unwrap_or_default();
        let _ = write!(io::stderr(), "{question}{hint}: ");
        let _ = io::stderr().flush();
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        if !matches!(read, Ok(length) if (1..=LONGEST).contains(&length)) {
            return Err(Failure::needs_person("the answer ended before it was whole", "Start again."));
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { usual.map(str::to_owned) } else { Some(answer.to_owned()) })
    }

    /// Asks until `read` takes the answer.
    pub(super) fn ask_until<T>(
        &mut self,
        question: &str,
        usual: Option<&str>,
        option: &str,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        loop {
            match read(&self.ask(question, usual, option)?) {
                Ok(answer) => return Ok(answer),
                Err(why) if self.at_terminal => self.say(&format!("  {why}")),
                Err(why) => return Err(Failure::needs_person(why, format!("Give another {option}."))),
            }
        }
    }
}
