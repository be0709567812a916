//! What an answer's body says, without its markup.

use serde_json::Value;

/// The text of `body`: the strings of JSON, the text of HTML, anything else as it is.
pub(super) fn plain_text(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => {
            let mut text = String::new();
            strings(&json, &mut text);
            text
        }
        _ if body.contains('<') => without_tags(body),
        _ => body.to_owned(),
    }
}

/// serde_json stops at 128 levels, so this ends.
fn strings(json: &Value, text: &mut String) {
    match json {
        Value::String(string) => {
            text.push_str(string);
            text.push('\n');
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, text)),
        Value::Object(members) => members.values().for_each(|value| strings(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Enough of HTML to read an error page: no tags, and the entities that stand in messages.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        rest = after.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let entities =
        [("&nbsp;", " "), ("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    entities.into_iter().fold(text, |text, (entity, meant)| text.replace(entity, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gives_its_strings_and_html_its_text() {
        assert_eq!(plain_text(r#"{"a":"x\u0020y","b":[{"c":"z"}],"d":1}"#), "x y\nz\n");
        assert_eq!(
            plain_text("<p>Not&nbsp;<b>authorized</b> to request scope &lt;x&gt;</p>"),
            "Not authorized to request scope <x>"
        );
        assert_eq!(plain_text("no markup & no <"), "no markup & no ");
        assert_eq!(plain_text("\"only a string\""), "\"only a string\"");
    }
}
