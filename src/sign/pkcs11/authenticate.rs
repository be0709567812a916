//! One C_Login: authorised before it is made, and told afterwards.

use cryptoki_sys::CKR_USER_NOT_LOGGED_IN;

use super::{
    calls::{Failure, Library, Session, SessionState, Slot, User},
    code::{answered, is},
    login::{Login, LoginOutcome, LoginRequest, Logins},
    profile::{LoginMode, Profile, UserType},
};
use crate::sign::{Error, PinProblem};

/// Logs in where the device wants it. One try for each PIN, after every check that costs none. Without `logins`, it must
/// be logged in to.
pub(super) fn log_in(
    library: &dyn Library,
    slot: Slot,
    session: &dyn Session,
    profile: &Profile,
    logins: Option<&dyn Logins>,
) -> Result<(), Error> {
    let user = match profile.login.user_type {
        UserType::User => User::User,
        UserType::CryptoUser => User::Vendor(CRYPTO_USER),
    };
    loop {
        // Asked again before each try: what it says of its PIN has changed with the last one.
        let info = library.device_info(slot).map_err(|why| answered(&why))?;
        let wanted = match profile.login.mode {
            LoginMode::Auto => info.requires_login(),
            LoginMode::Always => true,
            LoginMode::None => false,
        };
        if !wanted || is_logged_in(session) {
            return Ok(());
        }
        let Some(logins) = logins else {
            return Err(answered(&Failure::Answered {
                function: "C_GetSessionInfo",
                code: CKR_USER_NOT_LOGGED_IN,
            }));
        };
        match try_login(session, user, &LoginRequest::new(&info, Login::User), logins) {
            Ok(()) => return Ok(()),
            Err(Refusal { again: true, .. }) => {}
            Err(Refusal { error, .. }) => return Err(error),
        }
    }
}

/// User type of a Luna partition's crypto user, which other makers took over.
const CRYPTO_USER: u32 = 0x8000_0001;

/// A login that was not made or not granted.
pub(super) struct Refusal {
    pub(super) error: Error,
    /// A person may be asked for another PIN.
    pub(super) again: bool,
}

/// One C_Login, authorised before and reported after.
pub(super) fn try_login(
    session: &dyn Session,
    user: User,
    request: &LoginRequest,
    logins: &dyn Logins,
) -> Result<(), Refusal> {
    let problem =
        |problem, again| Refusal { error: Error::Pin { device: request.device.name(), problem }, again };
    let _turn = logins.turn();
    let pin = logins.authorize(request).map_err(|why| problem(why, false))?;
    let code = match session.login(user, pin.as_ref()) {
        Ok(()) => {
            logins.ended(request, &LoginOutcome::Done);
            tracing::debug!(device = %request.device.name(), login = ?request.login, "logged in");
            return Ok(());
        }
        // Another signer of this process was faster.
        Err(why) if is(&why, "CKR_USER_ALREADY_LOGGED_IN") && is_logged_in(session) => {
            logins.ended(request, &LoginOutcome::NotWanted);
            return Ok(());
        }
        // Not a word on the PIN: the device asks for none here.
        Err(Failure::Answered { code, .. })
            if user == User::ContextSpecific && asks_for_no_pin(&super::calls::code_name(code)) =>
        {
            logins.ended(request, &LoginOutcome::NotWanted);
            return Err(problem(PinProblem::Refused(super::calls::code_name(code)), false));
        }
        Err(Failure::Answered { code, .. }) => super::calls::code_name(code),
        Err(Failure::Unusable { problem, .. }) => problem,
    };
    let again = logins.ended(request, &LoginOutcome::Refused(code.clone()));
    Err(problem(PinProblem::Refused(code), again))
}

/// Whether a login for one signature was answered so because no such login is wanted.
pub(super) fn asks_for_no_pin(code: &str) -> bool {
    matches!(code, "CKR_OPERATION_NOT_INITIALIZED" | "CKR_USER_ALREADY_LOGGED_IN")
}

/// Whether the device is logged in to, by this process.
pub(super) fn is_logged_in(session: &dyn Session) -> bool {
    session.state() == Ok(SessionState::User)
}
