//! What is counted: in a file that every process maps, so that it survives each of them, however it ends.
//!
//! The file is a table of 64 bytes a row: a name of up to 48 bytes, filled up with NULs, then two numbers of 64 bits in
//! the machine's order. For a function: calls begun, calls ended.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::fd::AsRawFd,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    functions::{Function, NAMES},
    place,
};

/// Sessions that are open now, and most of them at a time.
pub(crate) const SESSIONS: usize = NAMES.len();
/// Wrong PINs in all, and since the last one that was right.
pub(crate) const USER_PIN: usize = NAMES.len() + 1;
/// The same, of the PIN for one signature.
pub(crate) const SIGNATURE_PIN: usize = NAMES.len() + 2;
/// Number of the process that called C_Initialize last.
pub(crate) const PROCESS: usize = NAMES.len() + 3;
const OTHERS: [&str; 4] = ["sessions", "user-pin", "signature-pin", "process"];

const ROWS: usize = NAMES.len() + OTHERS.len();
const WIDTH: usize = 64;
const NAME: usize = 48;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) first: &'static AtomicU64,
    pub(crate) second: &'static AtomicU64,
}

/// Counts the beginning of a call; which one of `function` it is, from 1.
pub(crate) fn begin(function: Function) -> u64 {
    row(function as usize).first.fetch_add(1, Ordering::SeqCst) + 1
}

/// Counts its end.
pub(crate) fn end(function: Function) {
    row(function as usize).second.fetch_add(1, Ordering::SeqCst);
}

/// How often `function` was called, by all processes so far.
pub(crate) fn calls(function: Function) -> u64 {
    row(function as usize).first.load(Ordering::SeqCst)
}

pub(crate) fn row(at: usize) -> Row {
    static TABLE: OnceLock<usize> = OnceLock::new();
    let table = *TABLE.get_or_init(|| {
        map().unwrap_or_else(|why| crate::give_up(&format!("the table of counts cannot be used: {why}")))
    });
    let number = |offset: usize| {
        let address = (table + at * WIDTH + NAME + offset) as *mut u64;
        // SAFETY: within the mapping, which is never undone; aligned to 8; nobody uses it but as atomic numbers.
        unsafe { AtomicU64::from_ptr(address) }
    };
    Row { first: number(0), second: number(8) }
}

fn map() -> std::io::Result<usize> {
    let path = place::file("FAULTP11_COUNTS", "faultp11.counts");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    make(&mut file)?;
    // SAFETY: a new mapping of the whole file, which is as long as that.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            ROWS * WIDTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(address as usize) }
}

/// Writes the table with all its numbers at nought, unless another process has.
fn make(file: &mut File) -> std::io::Result<()> {
    file.lock()?;
    if file.metadata()?.len() == 0 {
        let mut table = Vec::with_capacity(ROWS * WIDTH);
        for name in NAMES.iter().chain(&OTHERS) {
            let row = table.len();
            table.extend_from_slice(name.as_bytes());
            table.resize(row + WIDTH, 0);
        }
        file.write_all(&table)?;
    }
    file.unlock()
}
