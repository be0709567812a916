//! Which scopes go with which client. Customs has nearly each of its scopes twice: `toll:…` for Norwegian organisations,
//! `toll:eu/…` for businesses with an eSeal (toll.github.io, June 2026). Maskinporten gives seals only those scopes whose
//! owner has opened them for Europe: Customs', and Digdir's own for a first try.

use super::{error::Fault, token::Exchange};
use crate::scope::{EUROPEAN, Holder};

/// Why a client, with an eSeal or without, cannot have these scopes together, or not with this exchange.
pub(crate) fn misfit(scopes: &[String], is_eseal: bool, exchange: Option<&Exchange>) -> Option<Fault> {
    let holder = if is_eseal { Holder::Eseal } else { Holder::Client };
    if let Some(scope) = scopes.iter().find(|scope| Holder::of(scope) != holder).cloned() {
        return Some(if is_eseal { Fault::SealScope { scope } } else { Fault::EuScope { scope } });
    }
    if !is_eseal {
        return None;
    }
    let (of_customs, others): (Vec<_>, Vec<_>) = scopes.iter().partition(|scope| scope.starts_with(EUROPEAN));
    if let (Some(scope), Some(other)) = (others.first(), of_customs.first()) {
        return Some(Fault::SealFamilies { scope: (*scope).clone(), other: (*other).clone() });
    }
    let at_customs = matches!(exchange, Some(Exchange::Customs { .. }));
    others.first().filter(|_| at_customs).map(|scope| Fault::NotAtCustoms { scope: (*scope).clone() })
}
