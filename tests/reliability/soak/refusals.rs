//! What the sandbox says in its log.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;

/// What the sandbox has refused, by the authority's code. It says so in its log alone.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<BTreeMap<String, usize>>>);

impl Refusals {
    pub(super) fn of(&self, code: &str) -> usize {
        self.0.lock().unwrap().get(code).copied().unwrap_or_default()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusals = self.0.lock().unwrap();
        let shown: Vec<_> = refusals.iter().map(|(code, times)| format!("{code} {times} times")).collect();
        f.write_str(&if shown.is_empty() { "nothing".into() } else { shown.join(", ") })
    }
}

impl<S: tracing::Subscriber> Layer<S> for Refusals {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        if said.message == "sandbox refused a grant" {
            *self.0.lock().unwrap().entry(said.code).or_default() += 1;
        }
    }
}

#[derive(Default)]
struct Said {
    message: String,
    code: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "code" {
            value.clone_into(&mut self.code);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
