//! What is known of each member, and which of them signs. Nothing here waits or touches a device.

use std::time::{Duration, SystemTime};

use crate::{
    certificate::Certificate,
    clock::Instant,
    jose::RsaPublicKey,
    sign::{
        Error, Fault, Health, Key, Outage, PinProblem,
        outage::{AFTER_SILENCE, pause},
    },
};

/// How long one rests that a person must mend.
const UNTIL_MENDED: Duration = Duration::from_secs(300);

/// Where keys differ, certificates are looked at this often: one may have been renewed beside its key.
const CERTIFICATES_ANEW: Duration = Duration::from_secs(600);

/// All members in the order of the configuration, and the names that their keys go by.
#[derive(Debug)]
pub(super) struct State {
    members: Vec<Standing>,
    current: Option<usize>,
    announced: Vec<Announced>,
    generations: u64,
    compared: Option<Instant>,
}

#[derive(Debug)]
struct Standing {
    key: Option<Key>,
    leaf: Option<Certificate>,
    turn: Turn,
    /// Since the last signature.
    failures: u32,
    trouble: Option<Trouble>,
}

/// What is wrong with a member.
#[derive(Debug)]
struct Trouble {
    error: Error,
    /// When it was last heard of.
    heard: Instant,
    /// Since when it lasts (wall time).
    since: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nobody has asked it for anything.
    Unasked,
    /// It may be asked for signatures.
    Ready,
    /// It failed, and is asked again then.
    After(Instant),
    /// Its PIN was refused or is locked: nothing is asked that may cost another try.
    Left,
}

/// A public key and the generation it goes by. One generation never stands for two keys.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    public_key: RsaPublicKey,
    generation: u64,
    /// Whether a device that holds it came back since: its certificates may be others.
    stale: bool,
}

impl State {
    pub(super) fn of(members: usize) -> Self {
        let standing = || Standing { key: None, leaf: None, turn: Turn::Unasked, failures: 0, trouble: None };
        Self {
            members: std::iter::repeat_with(standing).take(members).collect(),
            current: None,
            announced: Vec::new(),
            generations: 0,
            compared: None,
        }
    }

    /// Those that should be asked for their key now. When none is ready, a pause that is not over keeps nobody.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        let any_ready = self.any_ready();
        let anew = self.keys_differ() && self.compared.is_none_or(|at| now.since(at) >= CERTIFICATES_ANEW);
        self.indices(|standing| match standing.turn {
            Turn::Unasked => true,
            Turn::After(at) => at <= now || !any_ready,
            Turn::Ready => anew,
            Turn::Left => false,
        })
    }

    /// Those whose certificates should be read now: where keys differ, the certificates decide.
    pub(super) fn uncertified(&mut self, now: Instant) -> Vec<usize> {
        if !self.keys_differ() {
            return Vec::new();
        }
        let anew = self.compared.is_none_or(|at| now.since(at) >= CERTIFICATES_ANEW);
        if anew {
            self.compared = Some(now);
        }
        self.indices(|standing| standing.turn == Turn::Ready && (anew || standing.leaf.is_none()))
    }

    fn indices(&self, wanted: impl Fn(&Standing) -> bool) -> Vec<usize> {
        let numbered = self.members.iter().enumerate();
        numbered.filter(|(_, standing)| wanted(standing)).map(|(index, _)| index).collect()
    }

    pub(super) fn any_ready(&self) -> bool {
        self.members.iter().any(|standing| standing.turn == Turn::Ready)
    }

    /// Whether any but these is.
    pub(super) fn others_ready(&self, besides: &[usize]) -> bool {
        self.indices(|standing| standing.turn == Turn::Ready).iter().any(|other| !besides.contains(other))
    }

    /// Whether any is ready, or is asked by whoever comes next: nothing is known to be wrong with it.
    pub(super) fn any_to_be_asked(&self) -> bool {
        self.members.iter().any(|standing| matches!(standing.turn, Turn::Ready | Turn::Unasked))
    }

    /// Whether members were seen with different keys, wherever they are now.
    pub(super) fn keys_differ(&self) -> bool {
        let mut keys = self.members.iter().filter_map(|standing| Some(&standing.key.as_ref()?.public_key));
        keys.next().is_some_and(|first| keys.any(|other| other != first))
    }

    /// The key of a member, if it is known.
    pub(super) fn key(&self, index: usize) -> Option<&Key> {
        self.members.get(index)?.key.as_ref()
    }

    /// A member showed its key. Whether it is another one than before, or a device that came back.
    pub(super) fn met(&mut self, index: usize, key: &Key) -> bool {
        let Some(standing) = self.members.get_mut(index) else { return false };
        standing.turn = Turn::Ready;
        standing.trouble = None;
        let before = standing.key.replace(key.clone());
        let is_new = before.as_ref().is_none_or(|before| before.generation != key.generation);
        if is_new {
            standing.leaf = None;
        }
        if is_new && before.is_some() {
            let concerned = self.announced.iter_mut().filter(|it| it.public_key == key.public_key);
            concerned.for_each(|announced| announced.stale = true);
        }
        is_new
    }

    /// A member showed the certificate of its key.
    pub(super) fn certified(&mut self, index: usize, leaf: Certificate) {
        let Some(standing) = self.members.get_mut(index) else { return };
        let before = standing.leaf.replace(leaf);
        let (Some(before), Some(key)) = (before, &standing.key) else { return };
        if standing.leaf.as_ref().is_some_and(|leaf| leaf.der() != before.der()) {
            let concerned = self.announced.iter_mut().filter(|it| it.public_key == key.public_key);
            concerned.for_each(|announced| announced.stale = true);
        }
    }

    /// A member signed.
    pub(super) fn signed(&mut self, index: usize) {
        if let Some(standing) = self.members.get_mut(index) {
            standing.failures = 0;
            standing.trouble = None;
        }
    }

    /// Members that are left alone may have been found to be back, by whoever asked them: as `health` has it, they are
    /// asked again like those that nobody has asked.
    pub(super) fn look_again(&mut self, health: impl Fn(usize) -> Option<Health>) {
        for (index, standing) in self.members.iter_mut().enumerate() {
            let (Turn::After(_), Some(trouble)) = (standing.turn, &standing.trouble) else { continue };
            if health(index).is_some_and(|health| health.has_ended(&trouble.error, trouble.heard)) {
                standing.turn = Turn::Unasked;
                standing.trouble = None;
            }
        }
    }

    /// A member failed, and others go on.
    pub(super) fn failed(
        &mut self,
        index: usize,
        error: Error,
        now: Instant,
        wall: SystemTime,
        pauses: (Duration, Duration),
    ) {
        use PinProblem::{Format, Length, Missing, Source};

        let Some(standing) = self.members.get_mut(index) else { return };
        standing.turn = match (&error, error.kind()) {
            // Too much to do, or the program ends: neither says anything of the device.
            (_, Fault::Load) => return,
            // Where no try was spent, the source may be mended meanwhile.
            (Error::Pin { problem: Missing | Source(_) | Length(..) | Format(_), .. }, _) => {
                Turn::After(now + UNTIL_MENDED)
            }
            (Error::Pin { .. }, _) => Turn::Left,
            (_, Fault::Configuration) => Turn::After(now + UNTIL_MENDED),
            // It says itself when it is asked again.
            (Error::Away(outage), _) => Turn::After(now + outage.again.max(pauses.0)),
            _ => {
                let pauses = if error == Error::Deadline { AFTER_SILENCE } else { pauses };
                let before = standing.failures;
                standing.failures = before.saturating_add(1);
                Turn::After(now + pause(pauses, before))
            }
        };
        let since = if let Error::Away(outage) = &error { outage.since } else { wall };
        let since = standing.trouble.as_ref().map_or(since, |before| before.since.min(since));
        standing.trouble = Some(Trouble { error, heard: now, since });
    }

    /// The member that signs: where all have the same key, the one that did so last, as long as it can; where keys
    /// differ, the one with the newest certificate that is valid at `wall`.
    /// `late`: those that this request has no more time for.
    pub(super) fn choose(&mut self, wall: SystemTime, late: &[usize]) -> Result<usize, Error> {
        let mut ready = self.indices(|standing| standing.turn == Turn::Ready);
        ready.retain(|index| !late.contains(index));
        let Some(first) = ready.first().copied() else {
            return Err(self.trouble().unwrap_or(Error::Deadline));
        };
        let chosen = if self.keys_differ() {
            self.check_organisations()?;
            self.newest(&ready, wall)?
        } else {
            self.current.filter(|current| ready.contains(current)).unwrap_or(first)
        };
        self.current = Some(chosen);
        Ok(chosen)
    }

    fn newest(&self, ready: &[usize], wall: SystemTime) -> Result<usize, Error> {
        let certified = || {
            // The last of equals would win, and the first of the configuration should.
            ready.iter().rev().filter_map(|index| Some((*index, self.members.get(*index)?.leaf.as_ref()?)))
        };
        let valid = certified().filter(|(_, leaf)| leaf.is_valid_at(wall));
        let newest = valid.max_by_key(|(_, leaf)| (leaf.not_before(), leaf.not_after()));
        // When all are over, the authority says so in its own words.
        let chosen = newest.or_else(|| certified().max_by_key(|(_, leaf)| leaf.not_after()));
        chosen.map(|(index, _)| index).ok_or_else(|| Error::SeveralKeys {
            reason: match self.trouble() {
                Some(why) => format!("no certificate says which is the newest: {why}"),
                None => "no certificate says which is the newest".into(),
            },
        })
    }

    fn check_organisations(&self) -> Result<(), Error> {
        let mut names =
            self.members.iter().filter_map(|standing| Some(organisation(standing.leaf.as_ref()?)));
        let Some(first) = names.next() else { return Ok(()) };
        match names.find(|other| *other != first) {
            None => Ok(()),
            Some(other) => Err(Error::SeveralKeys {
                reason: format!("they are of two organisations: {first} and {other}"),
            }),
        }
    }

    /// `chosen` and those that can stand in for it: ready, with the same key.
    pub(super) fn order(&self, chosen: usize) -> Vec<usize> {
        let wanted = self.key(chosen).map(|key| &key.public_key);
        let stands_in = |standing: &Standing| {
            standing.turn == Turn::Ready && standing.key.as_ref().map(|key| &key.public_key) == wanted
        };
        let others = self.indices(stands_in).into_iter().filter(|index| *index != chosen);
        std::iter::once(chosen).chain(others).collect()
    }

    /// The generation that a key is made known by: a new one when a device that holds it came back since.
    pub(super) fn announce(&mut self, public_key: &RsaPublicKey) -> u64 {
        self.announced.retain(|it| it.public_key != *public_key || !it.stale);
        self.announce_once(public_key)
    }

    /// The same, without asking whether a device came back: whoever has a proof keeps it for this signature.
    pub(super) fn announce_once(&mut self, public_key: &RsaPublicKey) -> u64 {
        if let Some(generation) = Announced::generation_of(&self.announced, public_key) {
            return generation;
        }
        self.generations += 1;
        let public_key = public_key.clone();
        self.announced.push(Announced { public_key, generation: self.generations, stale: false });
        self.generations
    }

    /// All keys that have been made known, and by what.
    pub(super) fn announced(&self) -> Vec<Announced> {
        self.announced.clone()
    }

    /// Who is left alone for a while, and since when.
    pub(super) fn away(&self, now: Instant) -> Vec<Outage> {
        let outage = |(index, standing): (usize, &Standing)| {
            let again = match standing.turn {
                Turn::After(at) => at.since(now),
                // Not for a while: its trouble says so.
                Turn::Left | Turn::Unasked | Turn::Ready => return None,
            };
            let name = standing.key.as_ref().and_then(|key| key.device.clone());
            let Trouble { error, since, .. } = standing.trouble.as_ref()?;
            let (device, error) = match error {
                Error::Away(outage) => (Some(outage.device.clone()), outage.error.clone()),
                other => (None, Box::new(other.clone())),
            };
            let device = name.or(device).unwrap_or_else(|| format!("device {} of this signer", index + 1));
            Some(Outage { device, since: *since, error, again })
        };
        self.members.iter().enumerate().filter_map(outage).collect()
    }

    /// What is wrong with the first member that something is wrong with.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.members.iter().find_map(|standing| Some(standing.trouble.as_ref()?.error.clone()))
    }
}

impl Announced {
    /// The generation of this key among those that were known.
    pub(super) fn generation_of(known: &[Self], public_key: &RsaPublicKey) -> Option<u64> {
        known.iter().find(|it| it.public_key == *public_key).map(|it| it.generation)
    }
}

/// Whose a certificate is: by number, else by what the certificate says.
fn organisation(leaf: &Certificate) -> String {
    let number = leaf.organisation_number().ok().map(|number| number.to_string());
    let said = || leaf.organization_identifier().or(leaf.organisation()).or(leaf.common_name());
    number.or_else(|| said().map(str::to_owned)).unwrap_or_else(|| "one that is not named".into())
}
