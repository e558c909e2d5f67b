//! The contract, sentence by sentence: one async function each, every one on owners of its own, so that one store
//! can serve them all. Running them and reporting is left to the crate's root.

use std::future::Future;
use std::pin::Pin;

use crate::given::Store;

pub mod append;
pub mod forget;
pub mod ids;
pub mod owners;
pub mod pages;
pub mod together;

/// One sentence of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it says, and the name of its function.
    pub name: &'static str,
    /// Checks it; panics when it does not hold.
    pub run: fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

macro_rules! cases {
    ($($file:ident { $($case:ident,)+ })+) => {
        /// All of them.
        pub const CASES: &[Case] = &[$($(Case {
            name: concat!(stringify!($file), "::", stringify!($case)),
            run: |store| Box::pin($file::$case(store)),
        },)+)+];
    };
}

cases! {
    append {
        a_new_archive_is_empty,
        appended_entries_are_there_at_once_and_in_order,
        a_refused_batch_leaves_nothing,
        stamps_stand_still_but_never_go_back,
        the_last_stamp_outlives_its_entry,
        a_repeated_append_changes_nothing,
        a_repeat_does_not_undo_a_retraction,
        a_repeat_of_what_has_gone_is_a_conflict,
        a_stale_append_is_a_conflict,
        a_batch_that_differs_is_no_repeat,
        an_empty_batch_changes_nothing,
        stanzas_come_back_byte_for_byte,
        jids_and_ids_come_back_as_they_were,
        a_large_batch_is_one_append,
        settings_do_not_move_the_head,
    }
    pages {
        pages_by_every_single_filter,
        pages_by_filters_combined,
        walks_give_each_entry_once,
        start_and_end_are_inclusive,
        a_count_can_be_asked_for_alone,
        a_cursor_need_not_match_the_filter,
        an_unknown_position_is_not_found_anywhere,
        contacts_that_look_alike_are_told_apart,
    }
    forget {
        every_cut_takes_the_oldest,
        bytes_are_counted_as_they_stand,
        positions_never_come_back,
        conversations_follow_the_expiry,
        a_retraction_keeps_the_place,
        a_retraction_of_nothing_is_not_found,
        a_purge_leaves_the_high_water_mark,
        what_is_forgotten_cannot_be_read,
        forgetting_twice_is_forgetting_once,
    }
    ids {
        the_id_key_is_always_the_same,
        a_foreign_id_leads_to_the_newest,
        a_foreign_id_goes_with_its_entry,
        find_leaves_none_out,
    }
    owners {
        settings_are_independent,
        owners_come_in_the_order_of_their_text,
        the_list_goes_on_after_any_name,
        stats_follow_what_happens,
        owners_do_not_see_each_other,
    }
    together {
        writers_of_one_archive_do_not_interleave,
        a_page_is_of_one_moment,
        many_archives_at_once,
        a_call_given_up_has_happened_or_not,
    }
}
