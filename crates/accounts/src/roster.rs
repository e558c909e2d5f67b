//! A roster and its presence subscriptions: what an item is, and the state machine of RFC 6121 (section 3 and
//! Appendix A) as pure functions. Stanzas, pushes and routing themselves are the server's business: a
//! [`Transition`] only says which of them are due.

use std::collections::BTreeSet;
use std::fmt;

use jid::BareJid;

/// The longest name of a contact, in bytes (RFC 6121 section 2.1.2.4 leaves the limit to the server).
pub const NAME_BYTES_MAX: usize = 1023;
/// The longest name of a group, in bytes (RFC 6121 section 2.1.2.6).
pub const GROUP_BYTES_MAX: usize = 1023;
/// How many groups one contact can be in.
pub const GROUPS_MAX: usize = 64;
/// How many items one roster holds; pending requests of strangers count.
pub const ROSTER_ITEMS_MAX: usize = 5_000;
/// The largest subscription request that is kept word for word, in bytes. A larger one is kept without its
/// payload: see [`RosterItem::set_request`].
pub const REQUEST_BYTES_MAX: usize = 4_096;

/// Who sees whose presence, from the roster owner's point of view (RFC 6121 section 2.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Subscription {
    /// Nobody sees anybody.
    #[default]
    None,
    /// The owner sees the contact's presence.
    To,
    /// The contact sees the owner's presence.
    From,
    /// Both see each other.
    Both,
}

impl Subscription {
    /// The value of the `subscription` attribute of a roster item.
    pub fn as_str(self) -> &'static str {
        match self {
            Subscription::None => "none",
            Subscription::To => "to",
            Subscription::From => "from",
            Subscription::Both => "both",
        }
    }

    /// The reverse of [`as_str`](Self::as_str), for stores.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Subscription::None),
            "to" => Some(Subscription::To),
            "from" => Some(Subscription::From),
            "both" => Some(Subscription::Both),
            _ => None,
        }
    }

    /// Does the owner see the contact's presence?
    pub fn owner_sees_contact(self) -> bool {
        matches!(self, Subscription::To | Subscription::Both)
    }

    /// Does the contact see the owner's presence?
    pub fn contact_sees_owner(self) -> bool {
        matches!(self, Subscription::From | Subscription::Both)
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The four presence types that manage subscriptions (RFC 6121 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Request {
    /// Please let me see your presence.
    Subscribe,
    /// I no longer want to see your presence.
    Unsubscribe,
    /// You may see my presence.
    Subscribed,
    /// You may not, or no longer, see my presence.
    Unsubscribed,
}

impl Request {
    /// All four, for tables and tests.
    pub const ALL: [Request; 4] =
        [Request::Subscribe, Request::Unsubscribe, Request::Subscribed, Request::Unsubscribed];

    /// The value of the `type` attribute of the presence stanza.
    pub fn as_str(self) -> &'static str {
        match self {
            Request::Subscribe => "subscribe",
            Request::Unsubscribe => "unsubscribe",
            Request::Subscribed => "subscribed",
            Request::Unsubscribed => "unsubscribed",
        }
    }

    /// The request that a presence `type` stands for, if it is one of the four.
    pub fn parse(text: &str) -> Option<Self> {
        Request::ALL.into_iter().find(|request| request.as_str() == text)
    }
}

/// One of the nine states of RFC 6121 Appendix A.1. Only these nine can be made: `ask` is dropped where the owner
/// already sees the contact, `pending_in` where the contact already sees the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct State {
    subscription: Subscription,
    ask: bool,
    pending_in: bool,
}

impl State {
    /// All nine states, in the order of Appendix A.1.
    pub const ALL: [State; 9] = [
        State { subscription: Subscription::None, ask: false, pending_in: false },
        State { subscription: Subscription::None, ask: true, pending_in: false },
        State { subscription: Subscription::None, ask: false, pending_in: true },
        State { subscription: Subscription::None, ask: true, pending_in: true },
        State { subscription: Subscription::To, ask: false, pending_in: false },
        State { subscription: Subscription::To, ask: false, pending_in: true },
        State { subscription: Subscription::From, ask: false, pending_in: false },
        State { subscription: Subscription::From, ask: true, pending_in: false },
        State { subscription: Subscription::Both, ask: false, pending_in: false },
    ];

    /// The state with this subscription, an unanswered request of ours (`ask`) and one of theirs (`pending_in`).
    pub fn new(subscription: Subscription, ask: bool, pending_in: bool) -> Self {
        State {
            subscription,
            ask: ask && !subscription.owner_sees_contact(),
            pending_in: pending_in && !subscription.contact_sees_owner(),
        }
    }

    /// Who sees whom.
    pub fn subscription(self) -> Subscription {
        self.subscription
    }

    /// Has the owner asked, and not been answered ("Pending Out")?
    pub fn ask(self) -> bool {
        self.ask
    }

    /// Has the contact asked, and not been answered ("Pending In")?
    pub fn pending_in(self) -> bool {
        self.pending_in
    }

    /// The same, with the two directions of the subscription apart.
    fn of(owner_sees: bool, contact_sees: bool, ask: bool, pending_in: bool) -> Self {
        let subscription = match (owner_sees, contact_sees) {
            (false, false) => Subscription::None,
            (true, false) => Subscription::To,
            (false, true) => Subscription::From,
            (true, true) => Subscription::Both,
        };
        State::new(subscription, ask, pending_in)
    }

    /// What the roster shows of a state; a stranger's request is not shown (RFC 6121 section 2.1.2.5).
    fn visible(self) -> (Subscription, bool) {
        (self.subscription, self.ask)
    }
}

/// What the contact is to be told about the owner's presence after a transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PresenceDue {
    /// Nothing.
    Nothing,
    /// The current presence of each available resource: the contact may see it from now on.
    Current,
    /// `unavailable` from each available resource: the contact may no longer see it.
    Unavailable,
}

/// What follows from one subscription stanza.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state from now on.
    pub state: State,
    /// Outbound: route the stanza to the contact. Inbound: deliver it to the owner's interested resources.
    pub pass_on: bool,
    /// The roster item has changed as far as clients see it: push it.
    pub push: bool,
    /// Inbound only: the server answers the contact in the owner's name with this type.
    pub auto_reply: Option<Request>,
    /// What the contact is to be told about the owner's presence, after the stanza itself.
    pub presence: PresenceDue,
}

impl Transition {
    fn new(old: State, new: State, pass_on: bool, auto_reply: Option<Request>) -> Self {
        let presence = match (old.subscription.contact_sees_owner(), new.subscription.contact_sees_owner()) {
            (false, true) => PresenceDue::Current,
            (true, false) => PresenceDue::Unavailable,
            _ => PresenceDue::Nothing,
        };
        Transition { state: new, pass_on, push: old.visible() != new.visible(), auto_reply, presence }
    }
}

/// The owner sends `request` to the contact (RFC 6121 Appendix A.2).
pub fn outbound(state: State, request: Request) -> Transition {
    let to = state.subscription.owner_sees_contact();
    let from = state.subscription.contact_sees_owner();
    match request {
        Request::Subscribe => {
            let new = State::new(state.subscription, true, state.pending_in);
            Transition::new(state, new, true, None)
        }
        Request::Unsubscribe => {
            let new = State::of(false, from, false, state.pending_in);
            Transition::new(state, new, true, None)
        }
        Request::Subscribed => {
            // Without a request there is nothing to grant; pre-approval (RFC 6121 section 3.4) is not offered.
            let new = if state.pending_in { State::of(to, true, state.ask, false) } else { state };
            Transition::new(state, new, state.pending_in, None)
        }
        Request::Unsubscribed => {
            let new = State::of(to, false, state.ask, false);
            Transition::new(state, new, new != state, None)
        }
    }
}

/// The contact has sent `request` to the owner (RFC 6121 Appendix A.3).
pub fn inbound(state: State, request: Request) -> Transition {
    let to = state.subscription.owner_sees_contact();
    let from = state.subscription.contact_sees_owner();
    match request {
        Request::Subscribe if from => Transition::new(state, state, false, Some(Request::Subscribed)),
        Request::Subscribe => {
            let new = State::new(state.subscription, state.ask, true);
            Transition::new(state, new, new != state, None)
        }
        Request::Unsubscribe => {
            let new = State::of(to, false, state.ask, false);
            Transition::new(state, new, new != state, None)
        }
        Request::Subscribed => {
            // An approval that nobody asked for is ignored.
            let new = if state.ask { State::of(true, from, false, state.pending_in) } else { state };
            Transition::new(state, new, new != state, None)
        }
        Request::Unsubscribed => {
            let new = State::of(false, from, false, state.pending_in);
            Transition::new(state, new, new != state, None)
        }
    }
}

/// The stanzas that the server sends in the owner's name when the owner removes the item (RFC 6121 section 2.5.2):
/// each subscription and each open request is ended.
pub fn removal(state: State) -> Vec<Request> {
    let mut requests = Vec::with_capacity(2);
    if state.ask || state.subscription.owner_sees_contact() {
        requests.push(Request::Unsubscribe);
    }
    if state.pending_in || state.subscription.contact_sees_owner() {
        requests.push(Request::Unsubscribed);
    }
    requests
}

/// Why a roster set was not accepted (RFC 6121 section 2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// The name is longer than [`NAME_BYTES_MAX`]: `not-acceptable`.
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// A group is empty or longer than [`GROUP_BYTES_MAX`]: `not-acceptable`.
    #[error("a group is empty or longer than {GROUP_BYTES_MAX} bytes")]
    BadGroup,
    /// More than [`GROUPS_MAX`] groups: `not-acceptable`.
    #[error("more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// The same group twice: `bad-request`.
    #[error("the same group is named twice")]
    DuplicateGroup,
}

/// One contact of one owner. It may be no more than a stranger's open request: then it is not
/// [`listed`](Self::is_listed) and clients never see it as a roster item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterItem {
    /// The contact.
    pub jid: BareJid,
    /// The name that the owner gave, if any.
    pub name: Option<String>,
    /// The groups that the owner put the contact in.
    pub groups: BTreeSet<String>,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// The owner has asked to see the contact's presence and has had no answer (`ask='subscribe'`).
    pub ask: bool,
    /// The owner has put the contact into the roster, or a subscription has. `false` only while a stranger's request
    /// is all there is.
    pub listed: bool,
    /// The contact's open subscription request ("Pending In"): the presence stanza as it is to be delivered at each
    /// login until answered (RFC 6121 section 3.1.3).
    pub request: Option<Vec<u8>>,
}

impl RosterItem {
    /// A contact without name, groups or subscription, listed as after a roster set.
    pub fn new(jid: BareJid) -> Self {
        RosterItem {
            jid,
            name: None,
            groups: BTreeSet::new(),
            subscription: Subscription::None,
            ask: false,
            listed: true,
            request: None,
        }
    }

    /// A contact of whom nothing is known yet; [`apply`](Self::apply) decides whether it becomes listed.
    pub fn stranger(jid: BareJid) -> Self {
        RosterItem { listed: false, ..RosterItem::new(jid) }
    }

    /// The item's state in the terms of Appendix A.
    pub fn state(&self) -> State {
        State::new(self.subscription, self.ask, self.request.is_some())
    }

    /// Is the item one that clients see in the roster?
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Is there nothing left worth keeping: not listed, and no open request?
    pub fn is_empty(&self) -> bool {
        !self.listed && self.state() == State::default()
    }

    /// Takes over the state of a transition. A subscription or a request of the owner's lists the item; an answered
    /// or withdrawn request of the contact's is forgotten. A *new* request of the contact's must be handed over with
    /// [`set_request`](Self::set_request) as well, since a transition does not carry the stanza.
    pub fn apply(&mut self, transition: &Transition) {
        self.subscription = transition.state.subscription;
        self.ask = transition.state.ask;
        if !transition.state.pending_in {
            self.request = None;
        }
        if transition.state.visible() != State::default().visible() {
            self.listed = true;
        }
    }

    /// Keeps the contact's request as it is to be delivered later. Above [`REQUEST_BYTES_MAX`], `short` is kept: the
    /// same stanza without payload.
    pub fn set_request(&mut self, stanza: Vec<u8>, short: impl FnOnce() -> Vec<u8>) {
        self.request = Some(if stanza.len() <= REQUEST_BYTES_MAX { stanza } else { short() });
    }

    /// Takes name and groups of a roster set (RFC 6121 sections 2.3 and 2.4): both replace what was there, and the
    /// item is listed from now on. Nothing changes on error.
    pub fn rename(&mut self, name: Option<String>, groups: Vec<String>) -> Result<(), RosterError> {
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(RosterError::NameTooLong);
        }
        if groups.len() > GROUPS_MAX {
            return Err(RosterError::TooManyGroups);
        }
        if groups.iter().any(|group| group.is_empty() || group.len() > GROUP_BYTES_MAX) {
            return Err(RosterError::BadGroup);
        }
        let count = groups.len();
        let groups: BTreeSet<String> = groups.into_iter().collect();
        if groups.len() != count {
            return Err(RosterError::DuplicateGroup);
        }
        self.name = name.filter(|name| !name.is_empty());
        self.groups = groups;
        self.listed = true;
        Ok(())
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
