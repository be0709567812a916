//! The matrix itself: what goes wrong, when, and how it has to end.

use self::End::{Harmless, No, Person, PersonUnlessClean, Recovers};

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nobody notices: every request is answered with a signature.
    Harmless,
    /// While it lasts, requests fail, in time and with the reason; then signatures come again, without a person.
    Recovers,
    /// It stops safely: no login is tried again before a person has looked at the device.
    Person,
    /// The same, unless the device says by its flags, and its profile that they can be relied on, that no wrong PIN
    /// was entered: then one more login is tried.
    PersonUnlessClean,
    /// It cannot be, for this reason.
    No(&'static str),
}

/// Where on its way a request is, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Load,
    Initialize,
    Login,
    Find,
    SignInit,
    Sign,
    Idle,
}

pub(crate) const PHASES: [Phase; 7] =
    [Phase::Load, Phase::Initialize, Phase::Login, Phase::Find, Phase::SignInit, Phase::Sign, Phase::Idle];

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Initialize => "initialize",
            Self::Login => "login",
            Self::Find => "find",
            Self::SignInit => "sign-init",
            Self::Sign => "sign",
            Self::Idle => "idle",
        }
    }

    /// Whether the key has signed before.
    pub(crate) fn is_warm(self) -> bool {
        matches!(self, Self::SignInit | Self::Sign | Self::Idle)
    }

    /// The calls of this phase; what stands first is the one that a lasting fault befalls.
    pub(crate) fn calls(self, fault: &Fault) -> &'static [&'static str] {
        match (self, fault) {
            (Self::Load, Fault::Answer(_)) => &["C_GetFunctionList", "C_GetInterface"],
            (Self::Load, _) => &["loading", "C_GetFunctionList", "C_GetInterface"],
            (Self::Initialize, _) => &["C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession"],
            (Self::Login, _) => &["C_Login"],
            (Self::Find, _) => &[
                "C_FindObjects",
                "C_FindObjectsInit",
                "C_FindObjectsFinal",
                "C_GetAttributeValue",
                "C_GetMechanismList",
                "C_GetSessionInfo",
            ],
            (Self::SignInit, _) => &["C_SignInit"],
            (Self::Sign, _) => &["C_Sign"],
            (Self::Idle, _) => &["background"],
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A call is answered so.
    Answer(&'static str),
    /// This is done to a call, or to the module's own thread while nobody calls, in the language of its script.
    Act(&'static str),
    /// A call does not return, and then it does.
    Hold,
    /// The device is like that from this phase on, in lines of the script.
    Be(&'static [&'static str]),
}

/// A call does not return. While nobody calls, the whole process is stopped instead, as by SIGSTOP.
pub(crate) const HANG: Fault = Fault::Act("hang");

/// Each call leaves two megabytes behind. The module may take up 64.
pub(crate) const LEAK: Fault = Fault::Act("leak 2000000");

/// One fault, and how it ends at each phase.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) fault: Fault,
    /// In the order of [`PHASES`].
    pub(crate) ends: [End; 7],
    /// How long it lasts, in milliseconds.
    pub(crate) lasts: u64,
    /// Every call of a phase is tried, not only the first.
    pub(crate) thorough: bool,
    /// It is the nature of a device, and does not end.
    pub(crate) for_good: bool,
    /// Why it makes no sense where the library runs in threads of the program; empty where it does.
    pub(crate) not_in_threads: &'static str,
}

impl Row {
    pub(crate) fn runs_in_threads(&self) -> bool {
        self.not_in_threads.is_empty()
    }

    /// Tables of the module's profile besides, and fields of its table `[module]`.
    pub(crate) fn profile(&self) -> (&'static str, &'static str) {
        match self.fault {
            HANG => ("[sign]\ncall_timeout_s = 2\n", "init_timeout_s = 3\n"),
            LEAK => ("", "memory_limit_mb = 64\n"),
            _ => ("", ""),
        }
    }
}

/// Long enough for some requests; and for the pauses between tries to have grown as long as they get.
pub(crate) const WHILE: u64 = 500;
const LONG: u64 = 8000;

const NO_CALL: End = No("nobody calls");
const NO_SIGNATURE: End = No("only C_Sign gives signatures");
const ONCE_PER_LOAD: End = No("asked for once, when the library is loaded");
const ONCE_PER_START: End = No("seen at C_Initialize alone");
const ONCE: End = No("called once in a process, which does not grow beyond its limit by that");
const AS_SHORT: End = No("ends as one that lasts for a short while");
const FATAL: &str = "it would end the program: such libraries are not run in threads";
const STUCK: &str = "no thread can be ended: such libraries are not run in threads";

const fn code(name: &'static str, ends: [End; 7]) -> Row {
    Row {
        name,
        fault: Fault::Answer(name),
        ends,
        lasts: WHILE,
        thorough: false,
        for_good: false,
        not_in_threads: "",
    }
}

const fn act(name: &'static str, act: &'static str, not_in_threads: &'static str, ends: [End; 7]) -> Row {
    Row { name, fault: Fault::Act(act), ends, lasts: WHILE, thorough: false, for_good: false, not_in_threads }
}

const fn device(name: &'static str, lines: &'static [&'static str], ends: [End; 7]) -> Row {
    Row {
        name,
        fault: Fault::Be(lines),
        ends,
        lasts: WHILE,
        thorough: false,
        for_good: false,
        not_in_threads: "",
    }
}

const fn thorough(mut row: Row) -> Row {
    row.thorough = true;
    row
}

const fn long(mut row: Row) -> Row {
    row.lasts = LONG;
    row
}

const fn for_good(mut row: Row) -> Row {
    row.for_good = true;
    row
}

/// Codes by which a device says that it, or the way to it, is gone.
const GONE: [End; 7] = [Recovers, Recovers, PersonUnlessClean, Recovers, Recovers, Recovers, NO_CALL];
/// Codes that may mean anything: after a login, that the PIN was wrong, too.
const ANYTHING: [End; 7] = [Recovers, Recovers, Person, Recovers, Recovers, Recovers, NO_CALL];

/// Of faults that last for long.
const FOR_LONG: [End; 7] = [Recovers, Recovers, AS_SHORT, Recovers, Recovers, Recovers, AS_SHORT];

pub(crate) const ROWS: &[Row] = &[
    // A session that is dead.
    thorough(code("CKR_SESSION_HANDLE_INVALID", GONE)),
    code("CKR_SESSION_CLOSED", ANYTHING),
    code("CKR_OBJECT_HANDLE_INVALID", ANYTHING),
    code("CKR_KEY_HANDLE_INVALID", ANYTHING),
    code("CKR_OPERATION_ACTIVE", ANYTHING),
    code("CKR_OPERATION_NOT_INITIALIZED", ANYTHING),
    // A login that is lost.
    code("CKR_USER_NOT_LOGGED_IN", ANYTHING),
    // A device or a link that is gone.
    thorough(code("CKR_DEVICE_ERROR", GONE)),
    thorough(code("CKR_DEVICE_REMOVED", GONE)),
    code("CKR_TOKEN_NOT_PRESENT", GONE),
    code("CKR_TOKEN_NOT_RECOGNIZED", ANYTHING),
    code("CKR_SLOT_ID_INVALID", ANYTHING),
    thorough(code("CKR_GENERAL_ERROR", ANYTHING)),
    code("CKR_CRYPTOKI_NOT_INITIALIZED", ANYTHING),
    thorough(code("0x80000384", ANYTHING)),
    // A device that has too much to do.
    code("CKR_SESSION_COUNT", ANYTHING),
    code("CKR_HOST_MEMORY", ANYTHING),
    code("CKR_DEVICE_MEMORY", ANYTHING),
    code("CKR_FUNCTION_FAILED", ANYTHING),
    // A PIN.
    code("CKR_PIN_INCORRECT", ANYTHING),
    code("CKR_PIN_LOCKED", ANYTHING),
    code("CKR_PIN_EXPIRED", ANYTHING),
    code("CKR_PIN_LEN_RANGE", ANYTHING),
    code("CKR_PIN_INVALID", ANYTHING),
    // The caller's own mistake.
    code("CKR_MECHANISM_INVALID", ANYTHING),
    code("CKR_KEY_TYPE_INCONSISTENT", ANYTHING),
    code("CKR_KEY_FUNCTION_NOT_PERMITTED", ANYTHING),
    code("CKR_ATTRIBUTE_TYPE_INVALID", ANYTHING),
    code("CKR_DATA_LEN_RANGE", ANYTHING),
    // A library that takes its time, or all of it.
    act("slow", "delay 300", "", [Harmless, Harmless, Harmless, Harmless, Harmless, Harmless, NO_CALL]),
    act(
        "hang",
        "hang",
        STUCK,
        [Recovers, Recovers, PersonUnlessClean, Recovers, Recovers, Recovers, Recovers],
    ),
    Row {
        name: "hang-that-ends",
        fault: Fault::Hold,
        ends: [Harmless, Harmless, Harmless, Harmless, Harmless, Harmless, NO_CALL],
        lasts: WHILE,
        thorough: false,
        for_good: false,
        not_in_threads: "",
    },
    // A library that ends its process.
    thorough(act("SIGSEGV", "crash", FATAL, DIES)),
    thorough(act("SIGSEGV-afterwards", "after crash", FATAL, DIES)),
    act("abort", "abort", FATAL, DIES),
    thorough(act("exit", "exit 0", FATAL, DIES)),
    act("exit-with-error", "exit 3", FATAL, DIES),
    act("SIGKILL", "kill", FATAL, DIES),
    act("leak", "leak 100000", "", [Harmless; 7]),
    Row {
        name: "leak-beyond-the-limit",
        fault: LEAK,
        ends: [ONCE, ONCE, ONCE, ONCE, Harmless, Harmless, Harmless],
        lasts: LONG,
        thorough: false,
        for_good: false,
        not_in_threads: "it would be the program's memory",
    },
    thorough(act(
        "logged-out-behind-the-back",
        "logout",
        "",
        [
            No("nobody is logged in yet"),
            No("nobody is logged in yet"),
            No("nobody is logged in yet"),
            Recovers,
            Recovers,
            Harmless,
            Recovers,
        ],
    )),
    // Signatures that are none.
    act("wrong-signature", "wrong-signature", "", SPOILT),
    act("blank-signature", "blank-signature", "", SPOILT),
    act("truncated-signature", "truncated-signature 255", "", SPOILT),
    act("empty-signature", "truncated-signature 0", "", SPOILT),
    // A device that is odd.
    device("one-session", &["max-sessions 1"], [Harmless; 7]),
    device("one-session-unsaid", &["max-sessions 1", "max-sessions-unreported"], [Harmless; 7]),
    device("two-sessions", &["max-sessions 2"], [Harmless; 7]),
    device("sixteen-sessions", &["max-sessions 16"], [Harmless; 7]),
    device(
        "PIN-locked",
        &["pin-tries 3", "pin-spent 3"],
        [Person, Person, Person, Harmless, Harmless, Harmless, Harmless],
    ),
    device(
        "PIN-locked-unsaid",
        &["pin-tries 3", "pin-spent 3", "pin-flags-hidden"],
        [Person, Person, Person, Harmless, Harmless, Harmless, Harmless],
    ),
    device(
        "PIN-locked-called-incorrect",
        &["pin-tries 3", "pin-spent 3", "pin-flags-hidden", "locked-answer CKR_PIN_INCORRECT"],
        [Person, Person, Person, Harmless, Harmless, Harmless, Harmless],
    ),
    device(
        "PIN-at-its-last-try",
        &["pin-tries 3", "pin-spent 2"],
        [Person, Person, Harmless, Harmless, Harmless, Harmless, Harmless],
    ),
    device("NUL-padded-labels", &["nul-padded-labels"], [Harmless; 7]),
    device("duplicate-ids", &["duplicate-ids"], [Harmless; 7]),
    device(
        "unavailable-attributes",
        &["unavailable CKA_ALLOWED_MECHANISMS CKA_ALWAYS_AUTHENTICATE CKA_SIGN CKA_MODULUS_BITS CKA_ID"],
        [Harmless; 7],
    ),
    device("unavailable-limits", &["unavailable-limits"], [Harmless; 7]),
    for_good(device("PIN-for-each-signature", &["signature-pin 2468-1357"], [Harmless; 7])),
    device("slots-that-move", &["slots-move"], [Harmless; 7]),
    device("another-slot", &["slot-offset 7"], [Harmless; 7]),
    device(
        "out",
        &["removed"],
        [Recovers, Recovers, PersonUnlessClean, Recovers, Recovers, Recovers, Recovers],
    ),
    device(
        "out-and-in",
        &["insertion 1"],
        [Harmless, Harmless, PersonUnlessClean, Recovers, Harmless, Harmless, Harmless],
    ),
    device(
        "no-slots",
        &["no-slots"],
        [Recovers, Recovers, ONCE_PER_START, ONCE_PER_START, ONCE_PER_START, ONCE_PER_START, ONCE_PER_START],
    ),
    // The same for so long that the pauses between tries have grown.
    long(device("out-for-long", &["removed"], FOR_LONG)),
    long(Row { name: "CKR_DEVICE_ERROR-for-long", ..code("CKR_DEVICE_ERROR", FOR_LONG) }),
    long(act("SIGSEGV-for-long", "crash", FATAL, FOR_LONG)),
    // A library that has no good interface.
    device(
        "C_GetInterface-refused",
        &["C_GetInterface * answer CKR_GENERAL_ERROR"],
        [Harmless, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD],
    ),
    device(
        "C_GetInterface-null",
        &["interface null"],
        [Harmless, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD],
    ),
    device(
        "3.0-over-2.40",
        &["interface 3.0"],
        [Harmless, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD, ONCE_PER_LOAD],
    ),
];

const DIES: [End; 7] = [Recovers, Recovers, PersonUnlessClean, Recovers, Recovers, Recovers, Recovers];
const SPOILT: [End; 7] =
    [NO_SIGNATURE, NO_SIGNATURE, NO_SIGNATURE, NO_SIGNATURE, NO_SIGNATURE, Recovers, NO_SIGNATURE];
