use tracing::{
    Metadata,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    field::RecordFields,
    filter::filter_fn,
    fmt::{FormatFields, format::Writer},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Fields that may be written. A name that is not here is not printed, whatever somebody hangs on a span later: tokens,
/// assertions, PINs and national identity numbers have no name in this list.
const ALLOWED: [&str; 24] = [
    "message",
    "authority",
    "client",
    "signer",
    "side",
    "since",
    "lasted",
    "offset",
    "token",
    "error",
    "why",
    "wait",
    "status",
    "jti",
    "device",
    "library",
    "line",
    "module",
    "slot",
    "function",
    "code",
    "mechanism",
    "generation",
    "path",
];

/// Logs to standard error from `level` on. Other crates' records are let through from warnings on; of those,
/// `cryptoki` is left out: it writes an error for each mechanism it does not know, thirty for a common device.
pub(super) fn start(level: LevelFilter) {
    let filter = filter_fn(move |metadata| admits(metadata, level));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .fmt_fields(AllowedFields)
        .with_filter(filter);
    // Fails only when a logger is there already, as in tests that run several commands in one process.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

fn admits(metadata: &Metadata<'_>, level: LevelFilter) -> bool {
    let target = metadata.target();
    let is_ours = target == "segl" || target.starts_with("segl::");
    let most = if is_ours { level } else { level.min(LevelFilter::WARN) };
    !target.starts_with("cryptoki") && *metadata.level() <= most
}

struct AllowedFields;

impl<'writer> FormatFields<'writer> for AllowedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        let mut visitor = Visitor { writer: &mut writer, result: Ok(()), first: true };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'a, 'writer> {
    writer: &'a mut Writer<'writer>,
    result: std::fmt::Result,
    first: bool,
}

impl Visit for Visitor<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if self.result.is_err() || !ALLOWED.contains(&field.name()) {
            return;
        }
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        self.result = if field.name() == "message" {
            write!(self.writer, "{space}{value:?}")
        } else {
            write!(self.writer, "{space}{}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_field_that_is_not_on_the_list_is_not_written() {
        let page = Page::default();
        let writer = page.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(AllowedFields)
            .with_filter(filter_fn(|metadata| admits(metadata, LevelFilter::TRACE)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("request", client = "forwarder", assertion = "eyJ-secret");
            let _in_span = span.enter();
            tracing::info!(authority = "Customs", access_token = "eyJ-secret", "asking");
            tracing::error!(target: "cryptoki::mechanism", "unknown mechanism");
            tracing::trace!(target: "hyper::proto", "Authorization: Bearer eyJ-secret");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("asking") && text.contains("Customs") && text.contains("forwarder"), "{text}");
        for absent in ["eyJ-secret", "mechanism", "Bearer"] {
            assert!(!text.contains(absent), "{text}");
        }
    }
}
