use std::{collections::BTreeMap, sync::Arc};

use crate::token::{Authority, Contact};

/// The contacts of a pipeline: one for each authority and address, however many clients go there.
#[derive(Debug, Default)]
pub(super) struct Contacts(BTreeMap<(Authority, String), Arc<Contact>>);

impl Contacts {
    /// The one with `authority` at `address`, made by `make` when it is the first.
    pub(super) fn with(
        &mut self,
        authority: Authority,
        address: &str,
        make: impl FnOnce() -> Contact,
    ) -> Arc<Contact> {
        self.0.entry((authority, address.to_owned())).or_insert_with(|| Arc::new(make())).clone()
    }

    /// All of them, by authority and address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&(Authority, String), &Arc<Contact>)> {
        self.0.iter()
    }
}
