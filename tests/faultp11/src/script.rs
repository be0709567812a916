//! The script: which calls go wrong and how, and what kind of device there seems to be.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use cryptoki_sys::{CK_RV, CKR_PIN_LOCKED};

use crate::{code, functions::Function, place, tally};

/// What a script says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) rules: Vec<Rule>,
    /// Lines that hold once a function has been called so often.
    later: Vec<(Function, u64, String)>,
    pub(crate) interface: Interface,
    /// No session beyond these; 0: no limit.
    pub(crate) max_sessions: u64,
    /// The device does not say so.
    pub(crate) max_sessions_unreported: bool,
    /// So many wrong PINs in a row lock it; 0: never.
    pub(crate) pin_tries: u64,
    /// So many wrong PINs have been given before.
    pub(crate) pin_spent: u64,
    /// Its flags do not tell of its PIN.
    pub(crate) pin_flags_hidden: bool,
    pub(crate) locked_answer: LockedAnswer,
    /// The PIN for each signature; with it, every private key wants one.
    pub(crate) signature_pin: Option<String>,
    /// Labels are filled up with NULs.
    pub(crate) nul_padded_labels: bool,
    /// Every object seems to have the same CKA_ID.
    pub(crate) duplicate_ids: bool,
    /// Attributes that are there, with a length of CK_UNAVAILABLE_INFORMATION.
    pub(crate) unavailable: Vec<u64>,
    /// No limit of the device is available information.
    pub(crate) unavailable_limits: bool,
    /// Added to every slot number.
    pub(crate) slot_offset: u64,
    /// Slot numbers are others after each C_Initialize.
    pub(crate) slots_move: bool,
    /// C_Initialize finds no slot.
    pub(crate) no_slots: bool,
    /// The device is out.
    pub(crate) removed: bool,
    /// How often it has been put in again: sessions of an earlier time are gone.
    pub(crate) insertion: u64,
}

/// What C_GetInterface gives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Interface {
    /// The list of 2.40.
    #[default]
    V2,
    /// A list that says 3.0, without the functions of 3.0.
    V3,
    /// CKR_OK and NULL.
    Null,
}

/// What C_Login answers when the PIN is locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockedAnswer(pub(crate) CK_RV);

impl Default for LockedAnswer {
    fn default() -> Self {
        Self(CKR_PIN_LOCKED)
    }
}

/// What happens to some calls.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// `None`: every function.
    function: Option<Function>,
    first: u64,
    last: u64,
    /// Only as long as C_Initialize has not been called as often as this.
    initializations: u64,
    /// When the real module has done its work, instead of before.
    pub(crate) after: bool,
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Answer(CK_RV),
    Delay(Duration),
    Hang,
    /// Until the script no longer says so.
    Hold,
    Crash,
    Abort,
    Exit(i32),
    Kill,
    Leak(usize),
    /// Nobody is logged in any more.
    LogOut,
    /// A signature of the right length that is wrong.
    Spoil,
    /// Noughts instead of a signature.
    Blank,
    /// A signature of at most this length.
    Truncate(u64),
}

impl Rule {
    pub(crate) fn concerns(&self, function: Function, number: u64) -> bool {
        self.function.map_or(function.is_called(), |concerned| concerned == function)
            && (self.first..=self.last).contains(&number)
            && (self.initializations == u64::MAX
                || tally::calls(Function::C_Initialize) < self.initializations)
    }
}

/// What tells one version of the file from another.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

impl Script {
    /// As it stands in the file at this moment. A file that is not there says nothing.
    pub(crate) fn now() -> Arc<Self> {
        static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
        static READ: RwLock<Option<(Stamp, Arc<Script>)>> = RwLock::new(None);
        let path = PATH.get_or_init(|| place::file("FAULTP11_SCRIPT", "faultp11.script"));
        let stamp = stamp(path);
        if let Some((known, script)) = &*READ.read().unwrap_or_else(PoisonError::into_inner)
            && *known == stamp
        {
            return Self::at_this_moment(script);
        }
        let text = fs::read_to_string(path).unwrap_or_default();
        let script =
            Self::parse(&text).unwrap_or_else(|why| crate::give_up(&format!("{}: {why}", path.display())));
        let script = Arc::new(script);
        *READ.write().unwrap_or_else(PoisonError::into_inner) = Some((stamp, script.clone()));
        Self::at_this_moment(&script)
    }

    /// With those of its later lines that hold by now.
    fn at_this_moment(script: &Arc<Self>) -> Arc<Self> {
        let mut now = script.clone();
        for (_, _, line) in
            script.later.iter().filter(|(function, first, _)| tally::calls(*function) >= *first)
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            // It was understood when the file was read.
            let _ = Arc::make_mut(&mut now).take(&words);
        }
        now
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() {
                script.take(&words).ok_or_else(|| format!("`{line}` is not understood"))?;
            }
        }
        Ok(script)
    }

    fn take(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["from", function, first, line @ ..] => {
                Self::default().take(line)?;
                self.later.push((Function::named(function)?, first.parse().ok()?, line.join(" ")));
            }
            ["interface", "2.40"] => self.interface = Interface::V2,
            ["interface", "3.0"] => self.interface = Interface::V3,
            ["interface", "null"] => self.interface = Interface::Null,
            ["max-sessions", number] => self.max_sessions = number.parse().ok()?,
            ["max-sessions-unreported"] => self.max_sessions_unreported = true,
            ["pin-tries", number] => self.pin_tries = number.parse().ok()?,
            ["pin-spent", number] => self.pin_spent = number.parse().ok()?,
            ["pin-flags-hidden"] => self.pin_flags_hidden = true,
            ["locked-answer", code] => self.locked_answer = LockedAnswer(code::answer(code)?),
            ["signature-pin", pin] => self.signature_pin = Some((*pin).to_owned()),
            ["nul-padded-labels"] => self.nul_padded_labels = true,
            ["duplicate-ids"] => self.duplicate_ids = true,
            ["unavailable", attributes @ ..] => {
                for attribute in attributes {
                    self.unavailable.push(code::attribute(attribute)?);
                }
            }
            ["unavailable-limits"] => self.unavailable_limits = true,
            ["slot-offset", number] => self.slot_offset = number.parse().ok()?,
            ["slots-move"] => self.slots_move = true,
            ["no-slots"] => self.no_slots = true,
            ["removed"] => self.removed = true,
            ["insertion", number] => self.insertion = number.parse().ok()?,
            [function, calls, action @ ..] => self.rules.push(rule(function, calls, action)?),
            _ => return None,
        }
        Some(())
    }
}

fn rule(function: &str, calls: &str, words: &[&str]) -> Option<Rule> {
    let (initializations, words) = match words {
        ["until-initialize", number, words @ ..] => (number.parse().ok()?, words),
        words => (u64::MAX, words),
    };
    let (after, action) = match words {
        ["after", action @ ..] => (true, action),
        action => (false, action),
    };
    let function = match function {
        "*" => None,
        name => Some(Function::named(name)?),
    };
    let (first, last) = match calls.split_once('-') {
        None if calls == "*" => (1, u64::MAX),
        None => (calls.parse().ok()?, calls.parse().ok()?),
        Some((first, "")) => (first.parse().ok()?, u64::MAX),
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
    };
    let action = match action {
        ["answer", code] if function.is_none_or(Function::is_called) => Action::Answer(code::answer(code)?),
        ["delay", milliseconds] => Action::Delay(Duration::from_millis(milliseconds.parse().ok()?)),
        ["hang"] => Action::Hang,
        ["hold"] => Action::Hold,
        ["crash"] => Action::Crash,
        ["abort"] => Action::Abort,
        ["exit", code] => Action::Exit(code.parse().ok()?),
        ["kill"] => Action::Kill,
        ["logout"] => Action::LogOut,
        ["leak", bytes] => Action::Leak(bytes.parse().ok()?),
        ["wrong-signature"] if !after && function == Some(Function::C_Sign) => Action::Spoil,
        ["blank-signature"] if !after && function == Some(Function::C_Sign) => Action::Blank,
        ["truncated-signature", bytes] if !after && function == Some(Function::C_Sign) => {
            Action::Truncate(bytes.parse().ok()?)
        }
        _ => return None,
    };
    Some(Rule { function, first, last, initializations, after, action })
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()))
}
