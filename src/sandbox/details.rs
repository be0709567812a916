//! `authorization_details` (RFC 9396): the request for a system user in Altinn.

use serde_json::{Map, Value, json};

use super::{Refusal, assertion::printable, clients::Clients, knobs::Knobs, organisation};

/// The one type that this sandbox's metadata lists.
pub(super) const SYSTEM_USER: &str = "urn:altinn:systemuser";

/// What the token's `authorization_details` are for the `requested` ones of `client_id` (docs.altinn.studio,
/// system users).
pub(super) fn granted(
    requested: &Value,
    client_id: &str,
    clients: &Clients,
    knobs: &Knobs,
) -> Result<Value, Refusal> {
    let array = requested.as_array().ok_or(Refusal::DetailsValue("it is not an array"))?;
    let [Value::Object(detail)] = array.as_slice() else {
        return Err(Refusal::DetailsValue("it does not hold exactly one object"));
    };
    if detail.get("type").and_then(Value::as_str) != Some(SYSTEM_USER) {
        return Err(Refusal::DetailsType);
    }
    only(detail, &["type", "systemuser_org", "externalRef"])?;
    let organisation = match detail.get("systemuser_org") {
        Some(Value::Object(organisation)) => organisation,
        _ => return Err(Refusal::DetailsValue("systemuser_org is missing")),
    };
    only(organisation, &["authority", "ID"])?;
    if organisation.get("authority").and_then(Value::as_str) != Some("iso6523-actorid-upis") {
        return Err(Refusal::DetailsValue("authority is not iso6523-actorid-upis"));
    }
    let owner = organisation.get("ID").and_then(Value::as_str).and_then(|id| id.strip_prefix("0192:"));
    let owner = owner
        .filter(|number| organisation::is_number(number))
        .ok_or(Refusal::DetailsValue("ID is not 0192: and an organisation number"))?;
    let reference = match detail.get("externalRef") {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(Refusal::DetailsValue("externalRef is not a string")),
    };
    // Without a reference, Altinn looks for one that equals the owner's number.
    let wanted = reference.unwrap_or(owner);
    let user = clients
        .system_users
        .iter()
        .find(|user| {
            user.client_id == client_id
                && user.owner == owner
                && user.external_ref.as_deref().unwrap_or(&user.owner) == wanted
        })
        .ok_or(Refusal::NoSystemUser)?;
    let mut answer = json!({
        "type": SYSTEM_USER,
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{owner}") },
        "systemuser_id": [user.id],
        "system_id": user.system_id,
    });
    if let (true, Some(reference), Some(answer)) =
        (knobs.echo_external_ref, reference, answer.as_object_mut())
    {
        answer.insert("externalRef".into(), reference.into());
    }
    Ok(json!([answer]))
}

fn only(object: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refusal::DetailsField(printable(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let mut detail = json!({
            "type": SYSTEM_USER,
            "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{}", Clients::CUSTOMER) },
        });
        change(detail.as_object_mut().unwrap());
        json!([detail])
    }

    fn ask(requested: &Value, knobs: &Knobs) -> Result<Value, Refusal> {
        granted(requested, Clients::KEY_CLIENT, &Clients::default(), knobs)
    }

    #[test]
    fn a_system_user_is_found_by_owner_and_reference() {
        let plain = ask(&request(|_| {}), &Knobs::default()).unwrap();
        assert_eq!(plain[0]["systemuser_id"], json!(["5e610000-0000-4000-8000-000000000012"]));
        let branch = request(|detail| drop(detail.insert("externalRef".into(), json!("branch-7"))));
        let answer = ask(&branch, &Knobs::default()).unwrap();
        assert_eq!(answer[0]["systemuser_id"], json!(["5e610000-0000-4000-8000-000000000013"]));
        assert_eq!(answer[0].get("externalRef"), None);
        let echoing = Knobs { echo_external_ref: true, ..Knobs::default() };
        assert_eq!(ask(&branch, &echoing).unwrap()[0]["externalRef"], "branch-7");
    }

    #[test]
    fn type_fields_and_values_have_a_code_each() {
        let set =
            |name: &'static str, value: Value| request(|detail| drop(detail.insert(name.into(), value)));
        let refusal = |requested: &Value| ask(requested, &Knobs::default()).unwrap_err().code();
        assert_eq!(refusal(&set("type", json!("urn:other"))), "MP-301");
        assert_eq!(refusal(&set("systemuserorg", json!(1))), "MP-302");
        let org = |id: &str| json!({"authority": "iso6523-actorid-upis", "ID": id});
        for odd in [
            json!({}),
            json!([]),
            json!([{}, {}]),
            set("systemuser_org", json!(1)),
            set("systemuser_org", org(Clients::CUSTOMER)),
            set("systemuser_org", json!({"authority": "x", "ID": "0192:313005003"})),
            set("systemuser_org", org("0192:315550009")),
            set("externalRef", json!(7)),
            set("externalRef", json!("unknown")),
        ] {
            assert_eq!(refusal(&odd), "MP-303", "{odd}");
        }
    }
}
