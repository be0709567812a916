use std::io::Write;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use crate::jose;

/// Prints header and claims of a JWT as JSON. What is printed cannot be used: the signature is left out.
pub(super) fn show(jws: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let (Some(header), Some(claims)) = (jose::unverified_header(jws), jose::unverified_payload(jws)) else {
        writeln!(
            out,
            "The token is opaque: its {} characters mean something to its issuer only.",
            jws.len()
        )?;
        return Ok(());
    };
    let shown = json!({ "header": shortened(header), "claims": claims, "signature": "(hidden)" });
    writeln!(out, "{shown:#}")?;
    Ok(())
}

/// Certificates fill a screen and say nothing to a reader: their number and size are shown.
fn shortened(mut header: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(chain)) = header.get_mut("x5c") {
        for certificate in chain {
            let length = certificate.as_str().map_or(0, str::len);
            *certificate = json!(format!("(certificate, {length} characters of base64)"));
        }
    }
    header
}
