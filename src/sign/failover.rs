//! One signer over several devices.
//!
//! ```text
//!   same key in all          one signs; when its device fails, another takes over within the same call
//!   different keys           the one whose certificate is the newest valid one signs: an old device and its successor
//! ```
//!
//! A signature never goes by the generation of another key than the one that made it, so a proof made for one key is
//! never passed off as one for another. Devices with the same key share a generation: a take-over among them is nobody's
//! business but the operator's.

mod standing;

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use self::standing::{Announced, State};
use crate::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, Clock, Instant},
    sign::{Error, Fault, Health, Key, MakeMessage, Signed, Signer, last_trouble::LastTrouble},
};

/// How long a member that is looked at beside others may hold them up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old a message may be when a second member signs it: its `iat` was taken when the first one's turn had come.
const FRESH: Duration = Duration::from_secs(5);

/// Signs with one of several signers.
///
/// A member that fails is left alone for as long as its profile says, 0.25 s at first and 1 s at most by default; one
/// that does not answer, for 5 s to 5 min; and one whose PIN was refused, for good. Others go on, and
/// [`health`](Signer::health) shows who is away and since when.
pub struct Failover {
    members: Vec<Arc<dyn Signer>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    signatures: AtomicU64,
    trouble: LastTrouble,
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.members).finish()
    }
}

impl Failover {
    /// `first`, and `others` in the order in which they are preferred where nothing else decides. Touches nothing.
    #[must_use]
    pub fn new(
        first: Arc<dyn Signer>,
        others: impl IntoIterator<Item = Arc<dyn Signer>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let members: Vec<_> = std::iter::once(first).chain(others).collect();
        let state = Mutex::new(State::of(members.len()));
        Self { members, clock, state, signatures: AtomicU64::new(0), trouble: LastTrouble::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with what members know better by now.
    fn state_as_known(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.look_again(|index| Some(self.members.get(index)?.health()));
        state
    }

    fn member(&self, index: usize) -> Result<&Arc<dyn Signer>, Error> {
        self.members.get(index).ok_or(Error::Closed)
    }

    /// The member that signs, and its key, asked of it just now.
    async fn chosen(&self, call: &Call) -> Result<(usize, Key), Error> {
        self.look(call).await;
        let mut late = Vec::new();
        // Each round takes a member out, finds one to be another than it was, or is the last.
        for _ in 0..=2 * self.members.len() {
            let index = self.state().choose(self.clock.wall(), &late)?;
            late.push(index);
            let has_others = self.state().others_ready(&late);
            late.pop();
            let left = call.left(&*self.clock) / if has_others { 2 } else { 1 };
            let part = in_part(call, self.clock.now() + left, has_others);
            match self.member(index)?.key(&part).await {
                Ok(key) => {
                    if !self.state().met(index, &key) {
                        return Ok((index, key));
                    }
                    self.certify(call).await;
                }
                Err(error) if says_nothing(&error, left) => {
                    if call.is_over(&*self.clock) {
                        return Err(error);
                    }
                    late.push(index);
                }
                Err(error) => self.failed(index, error, call)?,
            }
        }
        Err(Error::KeyChanged)
    }

    /// Asks those whose time has come for their keys, and for certificates where these decide.
    async fn look(&self, call: &Call) {
        let (due, any_ready) = {
            let state = self.state_as_known();
            (state.due(self.clock.now()), state.any_ready())
        };
        if due.is_empty() {
            return;
        }
        let began = self.clock.now();
        let part = in_part(call, call.deadline(), any_ready);
        let asked = due.into_iter().filter_map(|index| Some((index, self.members.get(index)?.key(&part))));
        for (index, outcome) in self.answers(asked.collect(), any_ready).await {
            match outcome {
                Ok(key) => {
                    self.state().met(index, &key);
                }
                Err(error) if says_nothing(&error, self.clock.now().since(began)) => {}
                Err(error) => self.note(index, error),
            }
        }
        self.certify(call).await;
    }

    async fn certify(&self, call: &Call) {
        let uncertified = self.state().uncertified(self.clock.now());
        if uncertified.is_empty() {
            return;
        }
        let began = self.clock.now();
        let asked =
            uncertified.into_iter().filter_map(|index| Some((index, self.members.get(index)?.chain(call))));
        for (index, outcome) in self.answers(asked.collect(), false).await {
            match outcome {
                Ok(chain) => self.state().certified(index, chain.leaf().clone()),
                Err(error) if says_nothing(&error, self.clock.now().since(began)) => {}
                Err(error) => self.note(index, error),
            }
        }
    }

    /// What all of them answer. One that takes long is not waited for when another has answered, or is there anyway.
    async fn answers<T>(
        &self,
        mut open: Vec<(usize, BoxFuture<'_, Result<T, Error>>)>,
        any_ready: bool,
    ) -> Vec<(usize, Result<T, Error>)> {
        let patience = || self.clock.sleep_until(self.clock.now() + PATIENCE);
        let mut waiting = any_ready.then(patience);
        let mut done = Vec::new();
        poll_fn(|context| {
            open.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    done.push((*index, outcome));
                    false
                }
                Poll::Pending => true,
            });
            if open.is_empty() {
                return Poll::Ready(());
            }
            if waiting.is_none() && done.iter().any(|(_, outcome)| outcome.is_ok()) {
                waiting = Some(patience());
            }
            waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(context))
        })
        .await;
        done.extend(open.into_iter().map(|(index, _)| (index, Err(Error::Deadline))));
        done
    }

    /// Notes that a member failed; an error when there is no time or reason to ask another one.
    fn failed(&self, index: usize, error: Error, call: &Call) -> Result<(), Error> {
        let over = call.is_over(&*self.clock);
        self.note(index, error.clone());
        if over || error.kind() == Fault::Load { Err(error) } else { Ok(()) }
    }

    fn note(&self, index: usize, error: Error) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let pauses = self.members.get(index).map_or_else(Default::default, |member| member.pauses());
        self.state().failed(index, error, now, wall, pauses);
    }

    async fn find(&self, call: &Call) -> Result<Key, Error> {
        let (_, key) = self.chosen(call).await?;
        let generation = self.state().announce(&key.public_key);
        Ok(Key { generation, ..key })
    }

    async fn sign_with_one(&self, call: &Call, make: MakeMessage) -> Result<Signed, Error> {
        let (chosen, key) = self.chosen(call).await?;
        let (order, announced) = {
            let mut state = self.state();
            state.announce_once(&key.public_key);
            (state.order(chosen), state.announced())
        };
        let message = Message::new(make, self.clock.clone());
        let mut first = None;
        for (position, index) in order.iter().enumerate() {
            let others = u32::try_from(order.len() - position).unwrap_or(u32::MAX);
            let share = call.left(&*self.clock) / others;
            let began = self.clock.now();
            let (make, is_stale) = message.maker();
            let part = in_part(call, began + share, others > 1);
            match self.member(*index)?.sign(&part, make).await {
                Ok(_) if is_stale.load(Ordering::SeqCst) => break,
                Ok(signed) => return self.identified(*index, signed, call, &announced).await,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    if !says_nothing(&error, share) {
                        self.note(*index, error.clone());
                    }
                    first.get_or_insert(error);
                }
            }
            if call.is_over(&*self.clock) {
                break;
            }
        }
        let error = first.unwrap_or(Error::Deadline);
        // Another key is ready: a grant for it has to be made anew, and the first step there is a proof.
        let goes_on = error.kind() != Fault::Load && self.state().any_ready() && !call.is_over(&*self.clock);
        Err(if goes_on { Error::KeyChanged } else { error })
    }

    /// The signature under the generation of the key that made it.
    async fn identified(
        &self,
        index: usize,
        signed: Signed,
        call: &Call,
        announced: &[Announced],
    ) -> Result<Signed, Error> {
        let known = self.state().key(index).filter(|key| key.generation == signed.generation).cloned();
        let key = match known {
            Some(key) => key,
            // The device came back in between, perhaps with another key.
            None => {
                let key = self.member(index)?.key(call).await?;
                self.state().met(index, &key);
                if key.generation != signed.generation {
                    return Err(Error::KeyChanged);
                }
                key
            }
        };
        let mut state = self.state();
        state.signed(index);
        let generation = Announced::generation_of(announced, &key.public_key)
            .unwrap_or_else(|| state.announce_once(&key.public_key));
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(Signed { generation, ..signed })
    }

    async fn read_chain(&self, call: &Call) -> Result<Chain, Error> {
        let (chosen, _) = self.chosen(call).await?;
        let mut first = None;
        let order = self.state().order(chosen);
        for index in order {
            match self.member(index)?.chain(call).await {
                Ok(chain) => return Ok(chain),
                // It may stand beside the same key in another device.
                Err(error) => first.get_or_insert(error),
            };
        }
        Err(first.unwrap_or(Error::Deadline))
    }
}

impl Signer for Failover {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(self.trouble.watch(&*self.clock, self.find(call)))
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(self.trouble.watch(&*self.clock, self.sign_with_one(call, make)))
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(self.trouble.watch(&*self.clock, self.read_chain(call)))
    }

    fn health(&self) -> Health {
        let (away, all_away, of_a_member) = {
            let state = self.state_as_known();
            (state.away(self.clock.now()), !state.any_to_be_asked(), state.trouble())
        };
        let health = Health {
            signatures: self.signatures.load(Ordering::Relaxed),
            away,
            all_away,
            answered: self.members.iter().filter_map(|member| member.health().answered).max(),
            ..Health::default()
        };
        Health { trouble: self.trouble.lasting(&health).or(of_a_member), ..health }
    }

    fn pauses(&self) -> (Duration, Duration) {
        let of_members = self.members.iter().map(|member| member.pauses());
        of_members.min().unwrap_or_default()
    }

    fn has_several_keys(&self) -> bool {
        self.state().keys_differ()
    }
}

/// A part of the time of `call`; where there are others to ask, a device that is away is not waited for.
fn in_part(call: &Call, until: Instant, has_others: bool) -> Call {
    let part = call.clone().no_later_than(until);
    if has_others { part.at_once() } else { part }
}

/// A caller in a hurry says nothing of the device.
fn says_nothing(error: &Error, waited: Duration) -> bool {
    *error == Error::Deadline && waited < PATIENCE
}

/// A message that is made once, whoever signs it.
struct Message {
    made: Arc<Mutex<Made>>,
    clock: Arc<dyn Clock>,
}

enum Made {
    NotYet(Option<MakeMessage>),
    At(Instant, Vec<u8>),
}

impl Message {
    fn new(make: MakeMessage, clock: Arc<dyn Clock>) -> Self {
        Self { made: Arc::new(Mutex::new(Made::NotYet(Some(make)))), clock }
    }

    /// What one member is to call, and whether what it was given then had grown too old.
    fn maker(&self) -> (MakeMessage, Arc<AtomicBool>) {
        let is_stale = Arc::new(AtomicBool::new(false));
        let (made, clock, stale) = (self.made.clone(), self.clock.clone(), is_stale.clone());
        let make = move || {
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *made {
                Made::NotYet(make) => {
                    let bytes = make.take().map(|make| make()).unwrap_or_default();
                    *made = Made::At(clock.now(), bytes.clone());
                    bytes
                }
                Made::At(at, bytes) => {
                    stale.store(clock.now().since(*at) > FRESH, Ordering::SeqCst);
                    bytes.clone()
                }
            }
        };
        (Box::new(make), is_stale)
    }
}

#[cfg(test)]
mod tests;
