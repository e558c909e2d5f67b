//! Archives side by side: settings, the list of owners, figures, and that nobody sees another's entries. Two
//! callers at the same moment are left to `together`.

use std::collections::BTreeMap;

use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    ArchiveInfo, Cut, DefaultPolicy, ExpiresAfter, NewEntry, Position, Prefs, Settings, SettingsChange,
    Timestamp,
};

use crate::given::{Store, bare, contents, entry, fill, fresh, fresh_name, jid, stamp, stanza, stored};

/// Each setting is set, changed and unset on its own.
pub async fn settings_are_independent(store: Store) {
    let (owner, other) = (fresh("settings"), fresh("settings-other"));
    let lists = |default| {
        let always = ["romeo@montague.example", "ünï@straße.example/Ü"].map(jid);
        let never = (0..50).map(|i| jid(&format!("never{i}@capulet.example/{i}")));
        Prefs::new(default, always, never)
    };
    let mut expected = Settings::default();
    let steps = [
        SettingsChange::ExpiresAfter(Some(ExpiresAfter::Seconds(0))),
        SettingsChange::Prefs(Some(Prefs::default())),
        SettingsChange::Prefs(Some(lists(DefaultPolicy::Roster))),
        SettingsChange::ExpiresAfter(Some(ExpiresAfter::Never)),
        SettingsChange::Prefs(Some(lists(DefaultPolicy::Never))),
        SettingsChange::ExpiresAfter(None),
        SettingsChange::ExpiresAfter(Some(ExpiresAfter::Seconds(1))),
        SettingsChange::Prefs(None),
        SettingsChange::ExpiresAfter(Some(ExpiresAfter::Seconds(i64::MAX as u64))),
        SettingsChange::ExpiresAfter(None),
    ];
    for step in steps {
        match step.clone() {
            SettingsChange::Prefs(prefs) => expected.prefs = prefs,
            SettingsChange::ExpiresAfter(period) => expected.expires_after = period,
        }
        for repeat in 0..2 {
            store.set(&owner, step.clone()).await.unwrap();
            assert_eq!(store.settings(&owner).await.unwrap(), expected, "{step:?} {repeat}");
        }
        fill(&store, &owner, [entry(0)]).await;
        store.expire(&owner, Cut::KeepNewest(1)).await.unwrap();
        assert_eq!(store.settings(&owner).await.unwrap(), expected, "appends and expiry leave {step:?}");
    }
    assert_eq!(store.settings(&other).await.unwrap(), Settings::default());
}

/// The archives of these owners, as the store lists them step by step.
async fn listed(store: &Store, step: usize) -> Vec<ArchiveInfo> {
    let mut all: Vec<ArchiveInfo> = Vec::new();
    loop {
        let after = all.last().map(|info| info.owner.clone());
        let part = store.owners(after.as_ref(), step).await.unwrap();
        assert!(part.len() <= step, "{} of {step}", part.len());
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

/// Owners come in the order of their text, each once, whatever the step; with their ends, stamps and bytes.
pub async fn owners_come_in_the_order_of_their_text(store: Store) {
    let tag = fresh_name("list");
    let mut names: Vec<BareJid> = ["a@", "a-b@", "b@", "", "a.b@", "ü@", "日本@", "zz@"]
        .iter()
        .map(|local| bare(&format!("{local}{tag}.example")))
        .collect();
    names.push(bare(&format!("a@{tag}.example.org")));
    names.push(bare(&format!("a@{tag}")));
    for (i, owner) in names.iter().enumerate() {
        let sized = |j| NewEntry { stanza: Bytes::from(vec![b'x'; i]), ..entry(j) };
        fill(&store, owner, (0..6).map(sized)).await;
    }
    store.expire(&names[1], Cut::Through(Position(3))).await.unwrap();
    store.purge(&names[2]).await.unwrap();
    store.expire(&names[3], Cut::KeepNewest(0)).await.unwrap();
    let period = Some(ExpiresAfter::Seconds(77));
    store.set(&names[4], SettingsChange::ExpiresAfter(period)).await.unwrap();
    let quiet = bare(&format!("quiet@{tag}.example"));
    store.set(&quiet, SettingsChange::ExpiresAfter(period)).await.unwrap();
    let prefs_only = bare(&format!("prefs@{tag}.example"));
    store.set(&prefs_only, SettingsChange::Prefs(Some(Prefs::default()))).await.unwrap();
    let mut expected: Vec<&BareJid> = names.iter().chain([&quiet, &prefs_only]).collect();
    expected.sort_by_key(|owner| owner.as_str());

    for step in [1, 3, 10_000] {
        let all = listed(&store, step).await;
        assert!(all.windows(2).all(|w| w[0].owner.as_str() < w[1].owner.as_str()), "in order, each once");
        let ours: Vec<_> = all.iter().filter(|info| info.owner.as_str().contains(&tag)).collect();
        assert_eq!(ours.iter().map(|info| &info.owner).collect::<Vec<_>>(), expected, "step {step}");
        for info in ours {
            let head = store.head(&info.owner).await.unwrap();
            let entries = contents(&store, &info.owner).await;
            let bytes: u64 = entries.iter().map(|entry| entry.stanza.len() as u64).sum();
            assert_eq!(info.head, head, "{}", info.owner);
            assert_eq!(info.first_stamp, entries.first().map(|entry| entry.stamp), "{}", info.owner);
            assert!(info.bytes >= bytes, "{}: {} of {bytes}", info.owner, info.bytes);
            let settings = store.settings(&info.owner).await.unwrap();
            assert_eq!(info.expires_after, settings.expires_after, "{}", info.owner);
        }
    }
    let by_name: BTreeMap<_, _> =
        listed(&store, 100).await.into_iter().map(|i| (i.owner.clone(), i)).collect();
    assert_eq!(by_name[&names[1]].first_stamp, Some(stamp(4)));
    assert_eq!(by_name[&names[2]].first_stamp, None);
    assert_eq!(by_name[&names[7]].bytes, 42, "where nothing was removed, the bytes are exact");
    assert_eq!(by_name[&quiet].expires_after, period);
}

/// `after` need not be an owner itself, and a limit of 0 is an empty list.
pub async fn the_list_goes_on_after_any_name(store: Store) {
    let tag = fresh_name("after");
    let (first, last) = (bare(&format!("b@{tag}")), bare(&format!("d@{tag}")));
    fill(&store, &first, [entry(0)]).await;
    fill(&store, &last, [entry(0)]).await;
    for (after, next) in [("a", &first), ("b", &last), ("c", &last)] {
        let after = bare(&format!("{after}@{tag}"));
        let found = store.owners(Some(&after), 10_000).await.unwrap();
        assert!(found.iter().all(|info| info.owner.as_str() > after.as_str()), "{after}");
        let ours: Vec<_> = found.iter().filter(|info| info.owner.as_str().contains(&tag)).collect();
        assert_eq!(&ours[0].owner, next, "after {after}");
    }
    assert_eq!(store.owners(None, 0).await.unwrap(), []);
}

/// The figures of the whole store follow appends, expiry and purges.
pub async fn stats_follow_what_happens(store: Store) {
    let (a, b) = (fresh("stats-a"), fresh("stats-b"));
    let start = store.stats().await.unwrap();
    let since = |now: mammoth_archive::Stats| {
        (now.archives.wrapping_sub(start.archives), now.entries.wrapping_sub(start.entries))
    };
    fill(&store, &a, (0..10).map(entry)).await;
    fill(&store, &b, (0..5).map(entry)).await;
    assert_eq!(since(store.stats().await.unwrap()), (2, 15));
    store.retract(&a, Position(9), stanza("tombstone")).await.unwrap();
    store.expire(&a, Cut::Through(Position(3))).await.unwrap();
    assert_eq!(since(store.stats().await.unwrap()), (2, 11));
    store.expire(&a, Cut::Before(Timestamp(i64::MAX))).await.unwrap();
    assert_eq!(since(store.stats().await.unwrap()), (1, 5), "an empty archive is not counted");
    store.purge(&b).await.unwrap();
    assert_eq!(since(store.stats().await.unwrap()), (0, 0));
    store.set(&a, SettingsChange::Prefs(Some(Prefs::default()))).await.unwrap();
    fill(&store, &a, [entry(10)]).await;
    let end = store.stats().await.unwrap();
    assert_eq!(since(end.clone()), (1, 1));
    assert!(end.disk_bytes > 0);
}

/// Owners whose names contain each other keep apart in everything: entries, ids, settings, expiry, purge.
pub async fn owners_do_not_see_each_other(store: Store) {
    let tag = fresh_name("apart");
    let names: Vec<BareJid> = [
        "a@{}",
        "a@{}.example",
        "a@{}.example.org",
        "aa@{}",
        "{}",
        "{}.example",
        "x.{}",
        "ä@{}",
        "ae@{}",
        "a%@{}",
        "_@{}",
    ]
    .iter()
    .map(|name| bare(&name.replace("{}", &tag)))
    .collect();
    let own = |owner: usize, i: i64| NewEntry {
        stanza: stanza(&format!("{owner}: {i}")),
        foreign_id: Some(format!("f{i}")),
        message_id: Some(format!("m{i}")),
        ..entry(i)
    };
    let mut expected: Vec<Vec<NewEntry>> = vec![Vec::new(); names.len()];
    for i in 0..6 {
        for (n, owner) in names.iter().enumerate().filter(|(n, _)| (*n as i64 + i) % 3 != 0) {
            let new = own(n, expected[n].len() as i64);
            expected[n].push(new.clone());
            fill(&store, owner, [new]).await;
        }
    }
    for (n, owner) in names.iter().enumerate() {
        assert_eq!(contents(&store, owner).await, stored(Position(0), &expected[n]), "{owner}");
        assert_eq!(store.locate(owner, "f1").await.unwrap(), Some(Position(1)), "{owner}");
    }
    store.purge(&names[0]).await.unwrap();
    store.expire(&names[1], Cut::KeepNewest(1)).await.unwrap();
    store.retract(&names[2], Position(0), stanza("tombstone")).await.unwrap();
    store.set(&names[3], SettingsChange::ExpiresAfter(Some(ExpiresAfter::Never))).await.unwrap();
    for (n, owner) in names.iter().enumerate() {
        let found = contents(&store, owner).await;
        let all = stored(Position(0), &expected[n]);
        match n {
            0 => assert_eq!(found, []),
            1 => assert_eq!(found, all[all.len() - 1..]),
            2 => assert!(found[0].retracted && found[1..] == all[1..]),
            _ => assert_eq!(found, all, "{owner}"),
        }
        let period = store.settings(owner).await.unwrap().expires_after;
        assert_eq!(period, (n == 3).then_some(ExpiresAfter::Never), "{owner}");
    }
}
