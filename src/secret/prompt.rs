//! Asking the person at the terminal.
//!
//! While a secret is typed, the terminal neither shows it nor edits lines nor turns Ctrl-C into a signal: keys come here
//! one by one. With the terminal's own line editing, Ctrl-C would end the program at once and leave the person with a
//! terminal that shows nothing of what is typed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Read, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    process::{Signal, getpid, kill_process},
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use zeroize::Zeroizing;

use super::{Error, LONGEST, Source};

/// How often one secret is asked for while a program runs: cards lock after three wrong ones.
pub const MOST_TRIES: u32 = 3;

/// There is one terminal for the whole process, and the devices behind it count every try of that process.
static ASKED: Mutex<Asked> = Mutex::new(Asked { times: BTreeMap::new(), something_else: false });

/// Held by whoever asks.
static TERMINAL: Mutex<()> = Mutex::new(());

struct Asked {
    /// How often each secret has been asked for.
    times: BTreeMap<String, u32>,
    /// Whether another secret has been read: one that nobody typed, or whose tries somebody else counts.
    something_else: bool,
}

fn asked() -> MutexGuard<'static, Asked> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// The secret's name: "PIN for pkcs11:token=CUSTOMS-A".
    pub what: String,
    /// How many were refused since the last one that was right.
    pub refused: u32,
    /// Whether the device locks when the next one is wrong, too.
    pub last_try: bool,
}

impl Question {
    /// The first question for the secret called `what`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), refused: 0, last_try: false }
    }

    /// The same, after so many that were refused.
    #[must_use]
    pub fn after(mut self, refused: u32) -> Self {
        self.refused = refused;
        self
    }

    /// The same, with what the device says: that it locks when the next one is wrong.
    #[must_use]
    pub fn last_try(mut self, last_try: bool) -> Self {
        self.last_try = last_try;
        self
    }

    fn text(&self) -> String {
        let Self { what, refused, last_try } = self;
        let warning = match last_try {
            true => " (the device locks if it is wrong; Ctrl-C gives up)",
            false if refused + 1 >= MOST_TRIES => {
                " (most devices lock after three wrong ones; Ctrl-C gives up)"
            }
            false => "",
        };
        match refused {
            0 => format!("{what}{warning}: "),
            _ => format!("{what}, try {} of {MOST_TRIES}{warning}: ", refused + 1),
        }
    }
}

/// The secret called `what`, as the person types it; `None` when nobody can be asked.
pub(super) fn read(what: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(terminal) = terminal() else { return Ok(None) };
    let before = {
        let mut asked = asked();
        let count = asked.times.entry(what.to_owned()).or_default();
        if *count >= MOST_TRIES {
            return Err(Error::AskedOften { what: what.to_owned() });
        }
        *count += 1;
        *count - 1
    };
    ask_at(&terminal, &Question::new(what).after(before).text()).map(Some)
}

/// Asks without counting; `None` when nobody can be asked.
pub(super) fn ask(question: &Question) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    something_else_was_read();
    terminal().map(|terminal| ask_at(&terminal, &question.text())).transpose()
}

/// How many tries are left of the secret that has been asked for most often; `None` when nobody has been asked, and when
/// a secret was read that nobody typed.
pub(super) fn tries_left() -> Option<u32> {
    let asked = asked();
    let most = asked.times.values().max().filter(|_| !asked.something_else);
    most.map(|count| MOST_TRIES.saturating_sub(*count))
}

/// Remembers that a secret was read that is not counted here.
pub(super) fn something_else_was_read() {
    asked().something_else = true;
}

/// The terminal that the program was started from, whatever its standard input is.
fn terminal() -> Option<File> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    terminal.is_terminal().then_some(terminal)
}

fn ask_at(terminal: &File, question: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refused = |kind| Error::Io { source_name: Source::Prompt.to_string(), kind };
    // One question at a time: keys would be shared out between two, and the echo would come back with the first answer.
    let _alone = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let typed = line(terminal, question).map_err(|error| refused(error.kind()))?;
        // By now the terminal is as it was, so that a signal may end or stop this process.
        match typed {
            Typed::Line(typed) => return Ok(typed),
            Typed::Over => return Err(refused(io::ErrorKind::UnexpectedEof)),
            Typed::Key(signal) => {
                kill_process(getpid(), signal).map_err(|error| refused(error.kind()))?;
                // Still here: stopped and continued, or the program has plans of its own for this signal.
                if signal != Signal::TSTP {
                    return Err(refused(io::ErrorKind::Interrupted));
                }
            }
        }
    }
}

enum Typed {
    Line(Zeroizing<Vec<u8>>),
    /// The key that stands for this signal.
    Key(Signal),
    /// Nobody is there any more.
    Over,
}

/// Writes `question` and reads one line, with the terminal silent in between.
fn line(mut terminal: &File, question: &str) -> io::Result<Typed> {
    let silent = Silent::make(terminal)?;
    terminal.write_all(question.as_bytes())?;
    // Sized once: a buffer that grows would leave copies of the secret behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let mut key = Zeroizing::new([0; 1]);
    let outcome = loop {
        match terminal.read(key.as_mut_slice()) {
            Ok(0) => break Typed::Over,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let [pressed] = *key;
        match pressed {
            b'\n' | b'\r' => break Typed::Line(typed),
            CTRL_C => break Typed::Key(Signal::INT),
            CTRL_BACKSLASH => break Typed::Key(Signal::QUIT),
            CTRL_Z => break Typed::Key(Signal::TSTP),
            CTRL_D if typed.is_empty() => break Typed::Over,
            CTRL_D => break Typed::Line(typed),
            CTRL_U => typed.clear(),
            BACKSPACE | DELETE => {
                // One character may be several bytes of UTF-8.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            // One more than any secret has is enough to refuse it.
            byte if typed.len() <= LONGEST => typed.push(byte),
            _ => {}
        }
    };
    drop(silent);
    // The line end that was typed did not show.
    terminal.write_all(b"\n")?;
    Ok(outcome)
}

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const CTRL_Z: u8 = 0x1a;
const CTRL_BACKSLASH: u8 = 0x1c;
const DELETE: u8 = 0x7f;

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    found: Termios,
}

impl<'a> Silent<'a> {
    fn make(terminal: &'a File) -> io::Result<Self> {
        let found = tcgetattr(terminal)?;
        let mut modes = found.clone();
        modes.local_modes -= LocalModes::ECHO
            | LocalModes::ECHONL
            | LocalModes::ICANON
            | LocalModes::ISIG
            | LocalModes::IEXTEN;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &modes)?;
        Ok(Self { terminal, found })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.found);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    /// A terminal, and the keyboard and screen that belong to it.
    fn terminal_and_person() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let person: OwnedFd = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let terminal = ioctl_tiocgptpeer(&person, flags).unwrap();
        (terminal.into(), person.into())
    }

    /// What becomes of `keys`, and what the person sees.
    fn typed(keys: &[u8]) -> (Option<Vec<u8>>, String) {
        let (terminal, mut person) = terminal_and_person();
        let before = tcgetattr(&terminal).unwrap();
        let outcome = std::thread::scope(|scope| {
            let asking = scope.spawn(|| line(&terminal, "PIN: ").unwrap());
            // Keys that come before the question are the shell's.
            let mut screen = [0; 5];
            person.read_exact(&mut screen).unwrap();
            assert_eq!(&screen, b"PIN: ");
            person.write_all(keys).unwrap();
            asking.join().unwrap()
        });
        let after = tcgetattr(&terminal).unwrap();
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(format!("{:?}", after.special_codes), format!("{:?}", before.special_codes));
        let mut screen = [0; 64];
        let shown = person.read(&mut screen).unwrap();
        let line = match outcome {
            Typed::Line(line) => Some(line.to_vec()),
            Typed::Key(signal) => Some(format!("signal {}", signal.as_raw()).into_bytes()),
            Typed::Over => None,
        };
        (line, String::from_utf8_lossy(&screen[..shown]).into_owned())
    }

    #[test]
    fn what_is_typed_is_read_and_never_shown() {
        let (line, screen) = typed(b"1234\r");
        assert_eq!((line.as_deref(), screen.as_str()), (Some(&b"1234"[..]), "\r\n"));
    }

    #[test]
    fn a_slip_can_be_mended() {
        for (keys, expected) in [
            ("12\u{7f}3\r", "13"),
            ("1ø\u{8}2\n", "12"),
            ("999\u{15}12\n", "12"),
            ("\u{7f}\u{7f}1\n", "1"),
            ("12\u{4}", "12"),
        ] {
            assert_eq!(typed(keys.as_bytes()).0.as_deref(), Some(expected.as_bytes()), "{keys:?}");
        }
    }

    #[test]
    fn the_keys_that_end_or_stop_a_program_do_so_with_the_terminal_as_it_was() {
        for (key, signal) in [(CTRL_C, Signal::INT), (CTRL_BACKSLASH, Signal::QUIT), (CTRL_Z, Signal::TSTP)] {
            let expected = format!("signal {}", signal.as_raw());
            assert_eq!(typed(&[b'1', key]).0.as_deref(), Some(expected.as_bytes()));
        }
        assert_eq!(typed(&[CTRL_D]).0, None);
    }

    #[test]
    fn a_line_that_is_longer_than_any_secret_is_cut_where_it_is_refused() {
        let mut keys = vec![b'x'; LONGEST + 100];
        keys.push(b'\r');
        assert_eq!(typed(&keys).0.map(|line| line.len()), Some(LONGEST + 1));
    }

    #[test]
    fn the_last_try_is_announced() {
        let text = |refused, last| Question::new("PIN of A").after(refused).last_try(last).text();
        assert_eq!(text(0, false), "PIN of A: ");
        assert_eq!(text(1, false), "PIN of A, try 2 of 3: ");
        assert!(text(2, false).contains("try 3 of 3 (most devices lock"));
        for refused in 0..3 {
            assert!(text(refused, true).contains("the device locks if it is wrong"));
        }
    }
}
