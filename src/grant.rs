//! Room 2: the JWT grant (RFC 7523). What is asked ([`TokenRequest`]), who asks ([`Grant`]), and the result of asking
//! once ([`Assertion`]).

mod request;

pub use self::request::{AuthorizationDetails, InvalidRequest, Pid, TokenRequest, TokenRequestBuilder};
