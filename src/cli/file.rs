//! Files of certificates that a person names.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

use super::failure::Failure;

/// Far above any chain.
const LARGEST: u64 = 1 << 20;

/// All of the file at `path`, which may hold a private key; of standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |why: String| {
        Failure::needs_person(
            format!("{} cannot be read: {why}", path.display()),
            "Name a file of certificates (PEM, DER, PKCS#7 or PKCS#12) that this user can read.",
        )
    };
    let all = |from: &mut dyn Read| -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        from.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match path.as_os_str() == "-" {
        true => all(&mut io::stdin().lock()),
        false => File::open(path).and_then(|mut file| all(&mut file)),
    };
    let bytes = bytes.map_err(|why| failed(why.to_string()))?;
    if bytes.len() as u64 > LARGEST { Err(failed("it is larger than 1 MiB".into())) } else { Ok(bytes) }
}
