//! The clients that a sandbox knows when nobody says otherwise.

use std::collections::BTreeMap;

use super::{Client, Clients, Delegation, Scope, SystemUser};

/// The scopes of Customs' APIs for Norwegian organisations (toll.github.io, June 2026).
const CUSTOMS_SCOPES: [&str; 7] = [
    "toll:movement/road/v2",
    "toll:movement/air",
    "toll:movement/rail",
    "toll:movement/maritime",
    "toll:movement/entry",
    "toll:goodsdeclaration/document.write",
    "toll:declaration.feed",
];

/// The same for businesses with an eSeal; there is no feed of declarations for them.
const EUROPEAN_CUSTOMS_SCOPES: [&str; 6] = [
    "toll:eu/movement/road/v2",
    "toll:eu/movement/air",
    "toll:eu/movement/rail",
    "toll:eu/movement/maritime",
    "toll:eu/movement/entry",
    "toll:eu/goodsdeclaration/document.write",
];

impl Clients {
    /// Demonstration client that authenticates with an enterprise certificate; belongs to
    /// [`Self::ORGANISATION`].
    pub const CERTIFICATE_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000001";
    /// Demonstration client whose keys are registered (`kid`); belongs to [`Self::ORGANISATION`], and has no
    /// key yet.
    pub const KEY_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000002";
    /// Demonstration client of the wrong integration type: every grant is refused with MP-201.
    pub const OTHER_TYPE_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000003";
    /// Synthetic organisation that owns the demonstration's clients.
    pub const ORGANISATION: &'static str = "312700018";
    /// organizationIdentifier of a synthetic Swedish business with an eSeal.
    pub const FOREIGN_ORGANISATION: &'static str = "VATSE-556012345601";
    /// Digdir's scope for a first try with an eSeal: opens nothing.
    pub const VERKSEMD: &'static str = "digdir:verksemd.eu";
    /// Synthetic customer that has delegated the Customs scopes to [`Self::ORGANISATION`] and has a system
    /// user there.
    pub const CUSTOMER: &'static str = "313005003";
    /// Synthetic organisation that has access but has delegated nothing (MP-251).
    pub const STRANGER: &'static str = "315550009";
    /// Scope on the demonstration's clients that nobody has been granted (MP-250).
    pub const NOT_GRANTED: &'static str = "sandbox:not-granted";
    /// Scope granted to [`Self::ORGANISATION`] that is on none of its clients (MP-200).
    pub const NOT_REGISTERED: &'static str = "sandbox:not-registered";
}

impl Default for Clients {
    fn default() -> Self {
        let registered: Vec<String> = CUSTOMS_SCOPES
            .iter()
            .chain(&["altinn:serviceowner/instances.read", Self::NOT_GRANTED])
            .map(|scope| (*scope).to_owned())
            .collect();
        let client = |integration_type: &str| Client {
            organisation: Self::ORGANISATION.into(),
            integration_type: integration_type.into(),
            scopes: registered.clone(),
            access_token_lifetime: None,
            jwks: Vec::new(),
        };
        let organisations =
            || [Self::ORGANISATION, Self::CUSTOMER, Self::STRANGER].map(str::to_owned).to_vec();
        let mut scopes: BTreeMap<String, Scope> = CUSTOMS_SCOPES
            .iter()
            .map(|scope| {
                let delegation_source = Some("https://sandbox.invalid/".to_owned());
                let granted = Scope { granted_to: organisations(), delegation_source, ..Scope::default() };
                ((*scope).to_owned(), granted)
            })
            .collect();
        for scope in ["altinn:serviceowner/instances.read", Self::NOT_REGISTERED] {
            scopes.insert(scope.into(), Scope { granted_to: organisations(), ..Scope::default() });
        }
        scopes.insert(Self::NOT_GRANTED.into(), Scope::default());
        for scope in EUROPEAN_CUSTOMS_SCOPES.iter().chain(&[Self::VERKSEMD]) {
            scopes.insert((*scope).to_owned(), Scope { eseal: true, ..Scope::default() });
        }
        let system_user = |client_id: &str, id: &str, external_ref: Option<&str>| SystemUser {
            owner: Self::CUSTOMER.into(),
            client_id: client_id.into(),
            system_id: format!("{}_segl_sandbox", Self::ORGANISATION),
            id: id.into(),
            external_ref: external_ref.map(str::to_owned),
        };
        Self {
            clients: BTreeMap::from([
                (Self::CERTIFICATE_CLIENT.into(), client("maskinporten")),
                (Self::KEY_CLIENT.into(), client("maskinporten")),
                (Self::OTHER_TYPE_CLIENT.into(), client("idporten")),
            ]),
            scopes,
            delegations: vec![Delegation {
                from: Self::CUSTOMER.into(),
                to: Self::ORGANISATION.into(),
                scopes: CUSTOMS_SCOPES.map(str::to_owned).to_vec(),
            }],
            system_users: vec![
                system_user(Self::CERTIFICATE_CLIENT, "5e610000-0000-4000-8000-000000000011", None),
                system_user(Self::KEY_CLIENT, "5e610000-0000-4000-8000-000000000012", None),
                system_user(Self::KEY_CLIENT, "5e610000-0000-4000-8000-000000000013", Some("branch-7")),
            ],
            customs: None,
            service_owners: BTreeMap::from([(Self::ORGANISATION.into(), "ttd".into())]),
        }
    }
}
