//! The tables of RFC 6121 Appendix A, row by row, and what a roster item makes of them. The rules themselves are
//! in roster.rs.

use super::*;

/// The nine states by the names the tables use.
fn state(name: &str) -> State {
    match name {
        "None" => State::ALL[0],
        "None+Out" => State::ALL[1],
        "None+In" => State::ALL[2],
        "None+Out+In" => State::ALL[3],
        "To" => State::ALL[4],
        "To+In" => State::ALL[5],
        "From" => State::ALL[6],
        "From+Out" => State::ALL[7],
        "Both" => State::ALL[8],
        other => panic!("no state is called {other}"),
    }
}

/// (from, pass on?, to); a table has all nine rows.
type Table = [(&'static str, bool, &'static str); 9];

fn check(rule: fn(State, Request) -> Transition, request: Request, table: &Table) {
    for (row, (from, pass_on, to)) in table.iter().enumerate() {
        assert_eq!(state(from), State::ALL[row], "the table names every state, in order");
        let transition = rule(state(from), request);
        assert_eq!(transition.state, state(to), "{request:?} in {from}");
        assert_eq!(transition.pass_on, *pass_on, "{request:?} in {from}");
    }
}

#[test]
fn a_2_1_outbound_subscribe() {
    check(
        outbound,
        Request::Subscribe,
        &[
            ("None", true, "None+Out"),
            ("None+Out", true, "None+Out"),
            ("None+In", true, "None+Out+In"),
            ("None+Out+In", true, "None+Out+In"),
            ("To", true, "To"),
            ("To+In", true, "To+In"),
            ("From", true, "From+Out"),
            ("From+Out", true, "From+Out"),
            ("Both", true, "Both"),
        ],
    );
}

#[test]
fn a_2_2_outbound_unsubscribe() {
    check(
        outbound,
        Request::Unsubscribe,
        &[
            ("None", true, "None"),
            ("None+Out", true, "None"),
            ("None+In", true, "None+In"),
            ("None+Out+In", true, "None+In"),
            ("To", true, "None"),
            ("To+In", true, "None+In"),
            ("From", true, "From"),
            ("From+Out", true, "From"),
            ("Both", true, "From"),
        ],
    );
}

#[test]
fn a_2_3_outbound_subscribed() {
    check(
        outbound,
        Request::Subscribed,
        &[
            ("None", false, "None"),
            ("None+Out", false, "None+Out"),
            ("None+In", true, "From"),
            ("None+Out+In", true, "From+Out"),
            ("To", false, "To"),
            ("To+In", true, "Both"),
            ("From", false, "From"),
            ("From+Out", false, "From+Out"),
            ("Both", false, "Both"),
        ],
    );
}

#[test]
fn a_2_4_outbound_unsubscribed() {
    check(
        outbound,
        Request::Unsubscribed,
        &[
            ("None", false, "None"),
            ("None+Out", false, "None+Out"),
            ("None+In", true, "None"),
            ("None+Out+In", true, "None+Out"),
            ("To", false, "To"),
            ("To+In", true, "To"),
            ("From", true, "None"),
            ("From+Out", true, "None+Out"),
            ("Both", true, "To"),
        ],
    );
}

#[test]
fn a_3_1_inbound_subscribe() {
    check(
        inbound,
        Request::Subscribe,
        &[
            ("None", true, "None+In"),
            ("None+Out", true, "None+Out+In"),
            ("None+In", false, "None+In"),
            ("None+Out+In", false, "None+Out+In"),
            ("To", true, "To+In"),
            ("To+In", false, "To+In"),
            ("From", false, "From"),
            ("From+Out", false, "From+Out"),
            ("Both", false, "Both"),
        ],
    );
}

#[test]
fn a_3_2_inbound_unsubscribe() {
    check(
        inbound,
        Request::Unsubscribe,
        &[
            ("None", false, "None"),
            ("None+Out", false, "None+Out"),
            ("None+In", true, "None"),
            ("None+Out+In", true, "None+Out"),
            ("To", false, "To"),
            ("To+In", true, "To"),
            ("From", true, "None"),
            ("From+Out", true, "None+Out"),
            ("Both", true, "To"),
        ],
    );
}

#[test]
fn a_3_3_inbound_subscribed() {
    check(
        inbound,
        Request::Subscribed,
        &[
            ("None", false, "None"),
            ("None+Out", true, "To"),
            ("None+In", false, "None+In"),
            ("None+Out+In", true, "To+In"),
            ("To", false, "To"),
            ("To+In", false, "To+In"),
            ("From", false, "From"),
            ("From+Out", true, "Both"),
            ("Both", false, "Both"),
        ],
    );
}

#[test]
fn a_3_4_inbound_unsubscribed() {
    check(
        inbound,
        Request::Unsubscribed,
        &[
            ("None", false, "None"),
            ("None+Out", true, "None"),
            ("None+In", false, "None+In"),
            ("None+Out+In", true, "None+In"),
            ("To", true, "None"),
            ("To+In", true, "None+In"),
            ("From", false, "From"),
            ("From+Out", true, "From"),
            ("Both", true, "From"),
        ],
    );
}

#[test]
fn subscribe_is_answered_for_those_who_are_subscribed_already() {
    for state in State::ALL {
        for request in Request::ALL {
            let expected = (request == Request::Subscribe && state.subscription().contact_sees_owner())
                .then_some(Request::Subscribed);
            assert_eq!(inbound(state, request).auto_reply, expected, "{request:?} in {state:?}");
            assert_eq!(outbound(state, request).auto_reply, None);
        }
    }
}

#[test]
fn a_push_is_due_exactly_when_clients_see_a_change() {
    for state in State::ALL {
        for request in Request::ALL {
            for transition in [inbound(state, request), outbound(state, request)] {
                let shown = |state: State| (state.subscription(), state.ask());
                assert_eq!(transition.push, shown(state) != shown(transition.state));
            }
        }
    }
    // A stranger's request is delivered, and is no roster change.
    let asked = inbound(State::default(), Request::Subscribe);
    assert!(asked.pass_on && !asked.push);
}

#[test]
fn presence_follows_the_contacts_right_to_see_it() {
    let cases = [
        ("To+In", Request::Subscribed, PresenceDue::Current),
        ("None+In", Request::Subscribed, PresenceDue::Current),
        ("Both", Request::Unsubscribed, PresenceDue::Unavailable),
        ("None+In", Request::Unsubscribed, PresenceDue::Nothing),
        ("Both", Request::Unsubscribe, PresenceDue::Nothing),
    ];
    for (from, request, due) in cases {
        assert_eq!(outbound(state(from), request).presence, due, "{request:?} in {from}");
    }
    assert_eq!(inbound(state("Both"), Request::Unsubscribe).presence, PresenceDue::Unavailable);
    assert_eq!(inbound(state("Both"), Request::Unsubscribed).presence, PresenceDue::Nothing);
}

#[test]
fn removal_ends_what_is_open() {
    use Request::{Unsubscribe, Unsubscribed};
    let cases: [(&str, &[Request]); 9] = [
        ("None", &[]),
        ("None+Out", &[Unsubscribe]),
        ("None+In", &[Unsubscribed]),
        ("None+Out+In", &[Unsubscribe, Unsubscribed]),
        ("To", &[Unsubscribe]),
        ("To+In", &[Unsubscribe, Unsubscribed]),
        ("From", &[Unsubscribed]),
        ("From+Out", &[Unsubscribe, Unsubscribed]),
        ("Both", &[Unsubscribe, Unsubscribed]),
    ];
    for (name, requests) in cases {
        assert_eq!(removal(state(name)), requests, "{name}");
    }
}

#[test]
fn only_nine_states_can_be_made() {
    use Subscription::{Both, From, None, To};
    for subscription in [None, To, From, Both] {
        for ask in [false, true] {
            for pending_in in [false, true] {
                assert!(State::ALL.contains(&State::new(subscription, ask, pending_in)));
            }
        }
    }
}

/// Two rosters facing each other: what one sends arrives at the other.
struct Pair {
    alice: RosterItem,
    bob: RosterItem,
}

impl Pair {
    fn new() -> Self {
        Pair {
            alice: RosterItem::stranger("bob@example.org".parse().unwrap()),
            bob: RosterItem::stranger("alice@example.org".parse().unwrap()),
        }
    }

    fn send(sender: &mut RosterItem, receiver: &mut RosterItem, request: Request) {
        let out = outbound(sender.state(), request);
        sender.apply(&out);
        if !out.pass_on {
            return;
        }
        let arrived = inbound(receiver.state(), request);
        receiver.apply(&arrived);
        if arrived.state.pending_in() && arrived.pass_on {
            receiver.set_request(b"<presence type='subscribe'/>".to_vec(), Vec::new);
        }
        if let Some(reply) = arrived.auto_reply {
            sender.apply(&inbound(sender.state(), reply));
        }
    }

    fn alice(&mut self, request: Request) {
        Self::send(&mut self.alice, &mut self.bob, request);
    }

    fn bob(&mut self, request: Request) {
        Self::send(&mut self.bob, &mut self.alice, request);
    }
}

#[test]
fn two_people_become_friends_and_part() {
    let mut pair = Pair::new();
    pair.alice(Request::Subscribe);
    assert!(pair.alice.is_listed(), "asking puts the contact into the roster");
    assert!(!pair.bob.is_listed(), "being asked does not");
    assert!(pair.bob.request.is_some());

    pair.bob(Request::Subscribed);
    assert!(pair.bob.is_listed() && pair.bob.request.is_none());
    assert_eq!((pair.alice.subscription, pair.bob.subscription), (Subscription::To, Subscription::From));

    pair.bob(Request::Subscribe);
    pair.alice(Request::Subscribed);
    assert_eq!((pair.alice.subscription, pair.bob.subscription), (Subscription::Both, Subscription::Both));

    pair.alice(Request::Unsubscribed);
    assert_eq!((pair.alice.subscription, pair.bob.subscription), (Subscription::To, Subscription::From));
    pair.alice(Request::Unsubscribe);
    assert_eq!((pair.alice.state(), pair.bob.state()), (State::default(), State::default()));
    assert!(pair.alice.is_listed() && pair.bob.is_listed(), "the items themselves stay");
}

#[test]
fn a_declined_stranger_leaves_nothing_behind() {
    let mut pair = Pair::new();
    pair.alice(Request::Subscribe);
    pair.bob(Request::Unsubscribed);
    assert!(pair.bob.is_empty());
    assert!(!pair.alice.ask && pair.alice.is_listed());
}

#[test]
fn the_two_sides_always_agree_once_everything_has_arrived() {
    use proptest::prelude::*;
    let step = (any::<bool>(), prop::sample::select(Request::ALL.to_vec()));
    proptest!(|(steps in prop::collection::vec(step, 0..40))| {
        let mut pair = Pair::new();
        for (by_alice, request) in steps {
            if by_alice { pair.alice(request) } else { pair.bob(request) }
            let (alice, bob) = (pair.alice.state(), pair.bob.state());
            prop_assert_eq!(
                alice.subscription().owner_sees_contact(),
                bob.subscription().contact_sees_owner()
            );
            prop_assert_eq!(alice.ask(), bob.pending_in());
            prop_assert_eq!(bob.ask(), alice.pending_in());
        }
    });
}

#[test]
fn a_roster_set_is_checked_whole() {
    let mut item = RosterItem::stranger("bob@example.org".parse().unwrap());
    let groups = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(item.rename(Some("x".repeat(NAME_BYTES_MAX + 1)), vec![]), Err(RosterError::NameTooLong));
    assert_eq!(item.rename(None, groups(&["a", "a"])), Err(RosterError::DuplicateGroup));
    assert_eq!(item.rename(None, groups(&["a", ""])), Err(RosterError::BadGroup));
    assert_eq!(item.rename(None, vec!["g".repeat(GROUP_BYTES_MAX + 1)]), Err(RosterError::BadGroup));
    let many: Vec<String> = (0..=GROUPS_MAX).map(|n| n.to_string()).collect();
    assert_eq!(item.rename(None, many), Err(RosterError::TooManyGroups));
    assert!(item.is_empty(), "nothing was taken over");

    item.rename(Some("Bob".into()), groups(&["work", "chess"])).unwrap();
    assert!(item.is_listed());
    assert_eq!(item.groups.iter().map(String::as_str).collect::<Vec<_>>(), ["chess", "work"]);
    item.rename(Some(String::new()), vec![]).unwrap();
    assert_eq!((item.name.as_deref(), item.groups.len()), (None, 0), "a set replaces both");
}

#[test]
fn an_oversized_request_is_kept_short() {
    let mut item = RosterItem::stranger("bob@example.org".parse().unwrap());
    item.set_request(vec![b'x'; REQUEST_BYTES_MAX], || panic!("it fits"));
    assert_eq!(item.request.as_ref().map(Vec::len), Some(REQUEST_BYTES_MAX));
    item.set_request(vec![b'x'; REQUEST_BYTES_MAX + 1], || b"<presence/>".to_vec());
    assert_eq!(item.request.as_deref(), Some(&b"<presence/>"[..]));
}

#[test]
fn names_of_states_and_requests_are_those_of_the_wire() {
    for request in Request::ALL {
        assert_eq!(Request::parse(request.as_str()), Some(request));
    }
    for subscription in [Subscription::None, Subscription::To, Subscription::From, Subscription::Both] {
        assert_eq!(Subscription::parse(subscription.as_str()), Some(subscription));
    }
    assert_eq!(Request::parse("probe"), None);
    assert_eq!(Subscription::parse("remove"), None);
}
