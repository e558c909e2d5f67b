//! Public ids: unique, good in their own archive only, dead once their entry has gone, and limited in number.
//! Walking by them is left to `walks`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use jid::BareJid;
use mammoth_archive::{
    Archive, ArchiveError, Cut, Filter, Limits, NewEntry, PageStart, Position, StanzaId, Timestamp,
};
use proptest::prelude::*;

mod given;
use given::{LIMITS, append, archive, arrival, bare, everything, jid, query, run, texts};

/// Names the entry in every place of a query that takes an id; each answer's first text, or the error.
async fn everywhere(archive: &Archive, owner: &BareJid, id: &StanzaId) -> Vec<Result<u64, ArchiveError>> {
    let none = Filter::default;
    let with = Some(jid("nobody@nowhere.example"));
    let mut answers = Vec::new();
    for (filter, start) in [
        (Filter { after: Some(id.clone()), ..none() }, PageStart::First),
        (Filter { before: Some(id.clone()), ..none() }, PageStart::Last),
        (Filter { ids: Some(vec![id.clone()]), ..none() }, PageStart::First),
        (none(), PageStart::After(id.clone())),
        (none(), PageStart::Before(id.clone())),
        (Filter { with: with.clone(), ..none() }, PageStart::After(id.clone())),
        (Filter { with, ids: Some(vec![id.clone()]), ..none() }, PageStart::First),
    ] {
        answers.push(archive.page(owner, query(filter, start, 0)).await.map(|page| page.count));
    }
    answers
}

async fn is_unknown(archive: &Archive, owner: &BareJid, id: &StanzaId, has_expired: bool) {
    let start = archive.metadata(owner).await.unwrap().map(|metadata| metadata.start);
    for (i, answer) in everywhere(archive, owner, id).await.into_iter().enumerate() {
        match answer {
            Err(ArchiveError::NotFound { id: named, expired, start: from }) => {
                assert_eq!((&named, expired, &from), (id, has_expired, &start), "{owner}, place {i}");
            }
            answer => panic!("{id} of {owner} in place {i}: {answer:?}"),
        }
    }
    if let Ok(trimmed) = archive.trim(owner, Some(id)).await {
        panic!("trimmed {trimmed} by an unknown id");
    }
}

async fn is_known(archive: &Archive, owner: &BareJid, id: &StanzaId) {
    for (i, answer) in everywhere(archive, owner, id).await.into_iter().enumerate() {
        assert!(answer.is_ok(), "{id} of {owner} in place {i}: {answer:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No two entries of any archives share an id, and each id is known in its own archive alone.
    #[test]
    fn unique_and_good_in_their_archive_only(sizes in prop::collection::vec(0..6_usize, 1..5)) {
        run(async {
            let archive = archive(LIMITS).await;
            let owners = ["a@x.example", "a@x.example.org", "aa@x.example", "x.example"].map(bare);
            let mut ids: Vec<(usize, StanzaId)> = Vec::new();
            for (owner, size) in sizes.iter().enumerate() {
                let batch = (0..*size).map(|i| arrival("b@y.example/r", &i.to_string())).collect();
                let given = append(&archive, &owners[owner], Timestamp(5), batch).await;
                ids.extend(given.into_iter().map(|id| (owner, id)));
            }
            assert_eq!(ids.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), ids.len());
            for (of, id) in &ids {
                for (owner, name) in owners.iter().enumerate() {
                    if owner == *of {
                        is_known(&archive, name, id).await;
                    } else {
                        is_unknown(&archive, name, id, false).await;
                    }
                }
            }
        });
    }
}

#[test]
fn an_id_dies_with_its_entry_and_the_answer_says_where_the_archive_starts() {
    run(async {
        let archive = archive(LIMITS).await;
        let owner = bare("romeo@montague.example");
        let batch = |from: i32| {
            (from..from + 5).map(|i| arrival("juliet@capulet.example/x", &i.to_string())).collect()
        };
        let ids = append(&archive, &owner, Timestamp(1), batch(0)).await;
        assert_eq!(archive.trim(&owner, Some(&ids[1])).await.unwrap(), 2);
        is_unknown(&archive, &owner, &ids[0], true).await;
        is_unknown(&archive, &owner, &ids[1], true).await;
        is_known(&archive, &owner, &ids[2]).await;
        let not_yet = archive.mint(&owner).id(Position(5));
        is_unknown(&archive, &owner, &not_yet, false).await;
        append(&archive, &owner, Timestamp(1), batch(5)).await;
        is_known(&archive, &owner, &not_yet).await;
        assert_eq!(archive.trim(&owner, None).await.unwrap(), 8);
        is_unknown(&archive, &owner, &not_yet, true).await;
        let fresh = append(&archive, &owner, Timestamp(1), batch(10)).await;
        is_known(&archive, &owner, &fresh[0]).await;
        archive.store().purge(&owner).await.unwrap();
        is_unknown(&archive, &owner, &fresh[0], true).await;
        for nonsense in ["28482-98726-73623", "x", "\u{1f9a3}", ids[0].as_str().to_uppercase().as_str()] {
            is_unknown(&archive, &owner, &StanzaId::new(nonsense).unwrap(), false).await;
        }
    });
}

#[test]
fn an_imported_entry_keeps_its_old_id() {
    run(async {
        let archive = archive(LIMITS).await;
        let (owner, other) = (bare("romeo@montague.example"), bare("juliet@capulet.example"));
        let entry = |i: i64, foreign_id: Option<&str>| NewEntry {
            with: jid("b@y.example/r"),
            stamp: Timestamp(i),
            stanza: Bytes::from(format!("{i}")),
            message_id: None,
            foreign_id: foreign_id.map(str::to_owned),
        };
        let too_long = "x".repeat(1024);
        let imported = [
            entry(0, Some("old-0")),
            entry(1, Some("28482-98726-73623")),
            entry(2, None),
            entry(3, Some("")),
            entry(4, Some(&too_long)),
        ];
        archive.store().append(&owner, Position(0), Arc::new(imported)).await.unwrap();
        let entries = everything(&archive, &owner).await;
        assert_eq!((entries[0].id.as_str(), entries[1].id.as_str()), ("old-0", "28482-98726-73623"));
        for entry in &entries {
            is_known(&archive, &owner, &entry.id).await;
            is_unknown(&archive, &other, &entry.id, false).await;
        }
        let own: HashSet<_> = (2..5).map(|p| archive.mint(&owner).id(Position(p))).collect();
        assert_eq!(entries[2..].iter().map(|entry| entry.id.clone()).collect::<HashSet<_>>(), own);
        let after = query(Filter::default(), PageStart::After(entries[1].id.clone()), 10);
        assert_eq!(texts(&archive.page(&owner, after).await.unwrap().entries), ["2", "3", "4"]);
        let metadata = archive.metadata(&owner).await.unwrap().unwrap();
        assert_eq!(metadata.start, (entries[0].id.clone(), Timestamp(0)));
        assert_eq!(archive.trim(&owner, Some(&entries[0].id)).await.unwrap(), 1);
        is_unknown(&archive, &owner, &entries[0].id, false).await;
    });
}

#[test]
fn too_many_ids_are_refused_and_as_many_as_allowed_are_not() {
    run(async {
        let archive = archive(Limits { page_max: 50, ids_max: 3 }).await;
        let owner = bare("romeo@montague.example");
        let batch = (0..5).map(|i| arrival("juliet@capulet.example/x", &i.to_string())).collect();
        let ids = append(&archive, &owner, Timestamp(1), batch).await;
        let ask =
            |ids: Vec<StanzaId>| query(Filter { ids: Some(ids), ..Filter::default() }, PageStart::First, 50);
        let page =
            archive.page(&owner, ask(vec![ids[4].clone(), ids[0].clone(), ids[2].clone()])).await.unwrap();
        assert_eq!(texts(&page.entries), ["0", "2", "4"], "in the order of the archive");
        let page = archive.page(&owner, ask(vec![])).await.unwrap();
        assert_eq!((page.count, page.complete), (0, true), "none asked for, none given");
        let refused = archive.page(&owner, ask(ids[..4].to_vec())).await;
        assert!(matches!(refused, Err(ArchiveError::TooManyIds(3))), "{refused:?}");
        archive.store().expire(&owner, Cut::Through(Position(0))).await.unwrap();
        let dead = archive.page(&owner, ask(vec![ids[1].clone(), ids[0].clone()])).await;
        assert!(
            matches!(&dead, Err(ArchiveError::NotFound { id, expired: true, .. }) if *id == ids[0]),
            "{dead:?}"
        );
    });
}
