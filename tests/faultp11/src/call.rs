//! One call: counted, then done to it what the script says.

use std::{hint::black_box, ptr, sync::Arc, thread, time::Duration};

use cryptoki_sys::CK_RV;

use crate::{
    device,
    functions::Function,
    script::{Action, Script},
    tally,
};

/// A call on its way.
pub(crate) struct Call {
    pub(crate) script: Arc<Script>,
    function: Function,
    number: u64,
}

/// How often a call that is held looks whether it may go on.
const LOOK: Duration = Duration::from_millis(1);

/// Does `act`, and to it what the script says of this call of `function`.
pub(crate) fn run(function: Function, act: impl FnOnce(&Call) -> CK_RV) -> CK_RV {
    let number = tally::begin(function);
    let call = Call { script: Script::now(), function, number };
    let instead = call.perform(false);
    let answer = match instead {
        Some(answer) => answer,
        None => {
            let answer = act(&call);
            call.perform(true).unwrap_or(answer)
        }
    };
    tally::end(function);
    answer
}

impl Call {
    /// What is to be done to the signature that this call makes.
    pub(crate) fn spoils(&self) -> impl Iterator<Item = &Action> {
        self.actions(false)
            .filter(|action| matches!(action, Action::Spoil | Action::Blank | Action::Truncate(_)))
    }

    fn actions(&self, after: bool) -> impl Iterator<Item = &Action> {
        let rules = self.script.rules.iter();
        rules
            .filter(move |rule| rule.after == after && rule.concerns(self.function, self.number))
            .map(|rule| &rule.action)
    }

    /// What the script wants before the call, or after it. The answer to give instead of the real one.
    fn perform(&self, after: bool) -> Option<CK_RV> {
        let mut answer = None;
        for action in self.actions(after) {
            match action {
                Action::Answer(code) => answer = answer.or(Some(*code)),
                Action::Delay(time) => thread::sleep(*time),
                Action::Hang => hang(),
                Action::Hold => self.wait_until_let_go(after),
                Action::Crash => crash(),
                Action::Abort => std::process::abort(),
                Action::Exit(code) => std::process::exit(*code),
                Action::Kill => kill(),
                Action::Leak(bytes) => leak(*bytes),
                Action::LogOut => device::log_out(),
                Action::Spoil | Action::Blank | Action::Truncate(_) => {}
            }
        }
        answer
    }

    /// Until the script no longer holds this call.
    fn wait_until_let_go(&self, after: bool) {
        loop {
            let script = Script::now();
            let held = |rule: &crate::script::Rule| {
                rule.after == after
                    && matches!(rule.action, Action::Hold)
                    && rule.concerns(self.function, self.number)
            };
            if !script.rules.iter().any(held) {
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// Writes where nothing may be written. A signal that is only raised would be ignored by some handlers.
fn crash() -> ! {
    // SAFETY: a new mapping that nobody else uses.
    let page = unsafe {
        libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    // SAFETY: it is not safe, and meant: the page may not be written, so the system sends SIGSEGV.
    unsafe { page.cast::<u8>().write_volatile(1) };
    std::process::abort()
}

fn kill() {
    // SAFETY: no pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn leak(bytes: usize) {
    // Written to, so that it is real memory.
    black_box(Box::leak(vec![0xa5_u8; bytes].into_boxed_slice()));
}
