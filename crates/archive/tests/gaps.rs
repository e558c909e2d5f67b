//! Clients that catch up while the archive forgets: whatever expires, is trimmed, retracted or purged between
//! two of their pages, no client is ever told that it has all when something is missing, and none is shown what
//! has been removed. The walks of an archive at rest are left to `walks`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    Archive, ArchiveError, Entry, ExpiresAfter, Filter, PageStart, Quota, StanzaId, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;

mod given;
use given::{LIMITS, SECOND, append, archive, arrival, bare, query, run};

const WITH: &str = "juliet@capulet.example/balcony";

/// Something that happens to the archive.
#[derive(Clone, Debug)]
enum Event {
    /// So many messages arrive, after so many seconds.
    Arrive(usize, i64),
    /// What is older than so many seconds goes.
    ExpireAge(u64),
    /// All but so many go.
    ExpireQuota(u64),
    /// The owner trims up to one of its entries.
    Trim(Index),
    /// One of its entries is retracted.
    Retract(Index),
    /// The account is removed, and made again.
    Purge,
    /// A client asks for its next page.
    Page(usize),
    /// A client forgets its walk and begins anew from its last complete one.
    Restart(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..6_usize, 0..4_i64).prop_map(|(n, later)| Event::Arrive(n, later)),
        2 => (0..10_u64).prop_map(Event::ExpireAge),
        1 => (0..12_u64).prop_map(Event::ExpireQuota),
        1 => any::<Index>().prop_map(Event::Trim),
        3 => any::<Index>().prop_map(Event::Retract),
        1 => Just(Event::Purge),
        24 => (0..CLIENTS.len()).prop_map(Event::Page),
        1 => (0..CLIENTS.len()).prop_map(Event::Restart),
    ]
}

/// How a client catches up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// RSM `after` the last id it has.
    After,
    /// The form's `after-id`, then RSM `after` within.
    AfterId,
    /// From the newest backwards, until it meets what it has.
    Backwards,
}

const CLIENTS: [(Way, usize); 5] =
    [(Way::After, 1), (Way::After, 3), (Way::AfterId, 2), (Way::AfterId, 50), (Way::Backwards, 2)];

/// What a client knows.
struct Client {
    way: Way,
    max: usize,
    /// Places (in all that ever arrived) of what it has, since it last had to begin anew: without a gap.
    has: Vec<usize>,
    /// Places of the walk under way.
    walk: Vec<usize>,
    completed: usize,
    told_of_gaps: usize,
}

/// All that ever arrived, and what of it stands.
struct World {
    archive: Archive,
    owner: BareJid,
    now: Timestamp,
    ids: Vec<StanzaId>,
    stamps: Vec<Timestamp>,
    first: usize,
    retracted: Vec<bool>,
}

impl World {
    fn place(&self, entry: &Entry) -> usize {
        let place = self.ids.iter().position(|id| *id == entry.id).expect("an id that was given");
        assert!(place >= self.first, "{place} has gone, {} is the first", self.first);
        assert_eq!(entry.retracted, self.retracted[place], "a tombstone where one is, and only there");
        let text = if entry.retracted { "tombstone".to_owned() } else { place.to_string() };
        assert_eq!(entry.stanza, text, "entry {place}");
        assert_eq!(entry.stamp, self.stamps[place]);
        place
    }

    async fn happen(&mut self, event: &Event) {
        let standing = self.ids.len() - self.first;
        match event {
            Event::Arrive(n, later) => {
                self.now = Timestamp(self.now.0 + later * SECOND);
                let from = self.ids.len();
                let batch = (from..from + n).map(|i| arrival(WITH, &i.to_string())).collect();
                self.ids.extend(append(&self.archive, &self.owner, self.now, batch).await);
                self.stamps.resize(self.ids.len(), self.now);
                self.retracted.resize(self.ids.len(), false);
            }
            Event::ExpireAge(seconds) => {
                let cut_off = Timestamp(self.now.0 - i64::try_from(*seconds).unwrap() * SECOND);
                let goes = self.stamps[self.first..].iter().take_while(|stamp| **stamp < cut_off).count();
                let report =
                    self.archive.expire(self.now, ExpiresAfter::Seconds(*seconds), Quota::default()).await;
                assert_eq!(report.unwrap().entries, goes as u64);
                self.first += goes;
            }
            Event::ExpireQuota(entries) => {
                let quota = Quota { entries: Some(*entries), bytes: None };
                let report = self.archive.expire(self.now, ExpiresAfter::Never, quota).await.unwrap();
                let goes = (standing as u64).saturating_sub(*entries);
                assert_eq!((report.entries, report.by_quota), (goes, goes));
                self.first += usize::try_from(goes).unwrap();
            }
            Event::Trim(at) if standing > 0 => {
                let place = self.first + at.index(standing);
                let gone = self.archive.trim(&self.owner, Some(&self.ids[place])).await.unwrap();
                assert_eq!(gone, (place + 1 - self.first) as u64);
                self.first = place + 1;
            }
            Event::Retract(at) if standing > 0 => {
                let place = self.first + at.index(standing);
                let id = self.ids[place].clone();
                let with = bare("juliet@capulet.example");
                let message_id = format!("m-{place}");
                let tombstone = |_: &Entry| Bytes::from_static(b"tombstone");
                let is_it = move |entry: &Entry| entry.id == id;
                let done = self.archive.retract(&self.owner, &with, &message_id, is_it, tombstone).await;
                assert_eq!(done.unwrap(), !self.retracted[place]);
                self.retracted[place] = true;
            }
            Event::Purge => {
                self.archive.store().purge(&self.owner).await.unwrap();
                self.first = self.ids.len();
            }
            Event::Trim(_) | Event::Retract(_) | Event::Page(_) | Event::Restart(_) => {}
        }
    }

    /// One page for a client, and what it may conclude from it.
    async fn page(&self, client: &mut Client) {
        let id = |place: usize| self.ids[place].clone();
        let mut filter = Filter::default();
        let start = match client.way {
            Way::After => match client.walk.last().or(client.has.last()) {
                Some(last) => PageStart::After(id(*last)),
                None => PageStart::First,
            },
            Way::AfterId => {
                filter.after = client.has.last().map(|last| id(*last));
                client.walk.last().map_or(PageStart::First, |last| PageStart::After(id(*last)))
            }
            Way::Backwards => {
                filter.after = client.has.last().map(|last| id(*last));
                client.walk.first().map_or(PageStart::Last, |first| PageStart::Before(id(*first)))
            }
        };
        match self.archive.page(&self.owner, query(filter, start, client.max)).await {
            Ok(page) => {
                let places: Vec<_> = page.entries.iter().map(|entry| self.place(entry)).collect();
                if client.way == Way::Backwards {
                    client.walk.splice(0..0, places);
                } else {
                    client.walk.extend(places);
                }
                if page.complete {
                    self.conclude(client);
                }
            }
            Err(ArchiveError::NotFound { id, expired, start }) => {
                let place =
                    self.ids.iter().position(|given| *given == id).expect("one that the client named");
                assert!(place < self.first && expired, "entry {place} stands, {} is the first", self.first);
                let first = self.ids.get(self.first).cloned().zip(self.stamps.get(self.first).copied());
                assert_eq!(start, first, "the answer says where the archive starts");
                // The client knows now that it may lack some, and begins anew.
                client.has.clear();
                client.walk.clear();
                client.told_of_gaps += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The client was told `complete`: it has all there is, without a gap.
    fn conclude(&self, client: &mut Client) {
        let walk = std::mem::take(&mut client.walk);
        assert!(walk.windows(2).all(|w| w[0] + 1 == w[1]), "a gap within the walk: {walk:?}");
        match (client.has.last(), walk.first()) {
            (Some(last), Some(first)) => assert_eq!(last + 1, *first, "a gap before the walk"),
            // The walk began at the start of the archive as it then was; whatever has gone since was seen.
            (None, Some(first)) => assert!(*first <= self.first, "{first} of {}", self.first),
            (_, None) => {}
        }
        client.has.extend(walk);
        if client.way != Way::Backwards {
            let end = client.has.last().map_or(self.first, |last| last + 1);
            assert_eq!(end, self.ids.len(), "complete, but the newest are missing");
        }
        client.completed += 1;
    }
}

/// Plays the events; answers how often clients were told `complete`, and how often that their cursor has gone.
fn play(events: &[Event]) -> (usize, usize) {
    run(async {
        let mut world = World {
            archive: archive(LIMITS).await,
            owner: bare("romeo@montague.example"),
            now: Timestamp(1000 * SECOND),
            ids: Vec::new(),
            stamps: Vec::new(),
            first: 0,
            retracted: Vec::new(),
        };
        let new = |(way, max)| Client { way, max, has: vec![], walk: vec![], completed: 0, told_of_gaps: 0 };
        let mut clients = CLIENTS.map(new);
        for event in events {
            world.happen(event).await;
            match event {
                Event::Page(client) => world.page(&mut clients[*client]).await,
                Event::Restart(client) => clients[*client].walk.clear(),
                _ => {}
            }
        }
        clients.iter().fold((0, 0), |(completed, told), client| {
            (completed + client.completed, told + client.told_of_gaps)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_client_is_told_complete_with_a_gap(events in prop::collection::vec(any_event(), 1..160)) {
        play(&events);
    }
}

/// The same with one fixed story, so that it is certain that both ends are met.
#[test]
fn a_client_that_was_away_too_long_is_told() {
    let mut events = vec![Event::Arrive(5, 0), Event::Page(1), Event::Page(1)];
    events.extend([Event::Arrive(5, 5), Event::ExpireAge(1), Event::Page(1), Event::Page(1), Event::Page(1)]);
    assert_eq!(play(&events), (2, 1));
}
