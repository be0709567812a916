//! The whole path: the real program, and the library's pipeline, against the sandbox.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "end_to_end/command_line.rs"]
mod command_line;
#[path = "end_to_end/crowd.rs"]
mod crowd;
#[path = "end_to_end/device.rs"]
mod device;
#[path = "end_to_end/eseal.rs"]
mod eseal;
#[path = "end_to_end/explain.rs"]
mod explain;
#[path = "end_to_end/file_key.rs"]
mod file_key;
#[path = "end_to_end/hanging_device.rs"]
mod hanging_device;
#[path = "support/odd_server.rs"]
mod odd_server;
#[path = "end_to_end/odd_servers.rs"]
mod odd_servers;
#[path = "end_to_end/outage.rs"]
mod outage;
#[path = "support/pkcs1.rs"]
mod pkcs1;
#[path = "end_to_end/readiness.rs"]
mod readiness;
#[path = "end_to_end/secrets.rs"]
mod secrets;
#[path = "support/softhsm.rs"]
mod softhsm;
#[path = "support/stand.rs"]
mod stand;
#[path = "end_to_end/thrift.rs"]
mod thrift;
