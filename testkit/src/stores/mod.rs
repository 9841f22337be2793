//! The conformance suite of storage: what every [`Backend`] must do, whatever database it is. Each sentence is a function over a
//! fresh one; [`crate::store_suite`] makes a test of each.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "these are tests, and say by their names what they are about"
)]

pub mod batches;
pub mod cache;
pub mod files;
pub mod fixtures;
pub mod keys;
pub mod ledger;
pub mod lineage;
pub mod memory;
pub mod registry;
pub mod results;
pub mod rollouts;
pub mod runs;
pub mod tracking;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use store::tracking::Tracking;
use store::{
    Backend, BatchStore, CacheStore, FileStore, KeyStore, LedgerStore, LineageStore, MemoryStore,
    ResultStore, RunStore,
};

/// A fresh database, and a folder that is its alone.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The database.
    pub backend: Arc<dyn Backend>,
    /// The folder.
    pub folder: PathBuf,
}

impl Subject {
    fn ledger(&self) -> Arc<dyn LedgerStore> {
        self.backend.ledger()
    }

    fn keys(&self) -> Arc<dyn KeyStore> {
        self.backend.keys()
    }

    fn runs(&self) -> Arc<dyn RunStore> {
        self.backend.runs()
    }

    fn results(&self) -> Arc<dyn ResultStore> {
        self.backend.results()
    }

    fn lineage(&self) -> Arc<dyn LineageStore> {
        self.backend.lineage()
    }

    fn tracking(&self) -> Tracking {
        self.backend.tracking()
    }

    fn watching(&self) -> Arc<dyn MemoryStore> {
        self.backend.watching()
    }

    fn triggers(&self) -> Arc<dyn MemoryStore> {
        self.backend.triggers()
    }

    fn batches(&self) -> Arc<dyn BatchStore> {
        self.backend.batches()
    }

    async fn cache(&self, max_bytes: u64) -> Arc<dyn CacheStore> {
        self.backend.cache(max_bytes).await.unwrap()
    }

    async fn files(&self) -> Arc<dyn FileStore> {
        self.backend.files(self.folder.join("files")).await.unwrap()
    }
}

/// The tests of a backend. `$open` names an async function that gives a [`Subject`] with whatever has to live as long, or `None`
/// where the database is not installed.
#[macro_export]
macro_rules! store_suite {
    ($open:path) => {
        $crate::store_suite!($open, runs:
            a_change_is_applied_to_the_journal_it_was_decided_on_and_to_no_other
            an_end_keeps_its_output_and_its_message_or_nothing
            the_highest_lane_goes_first_and_in_it_the_oldest
            a_flood_hides_nothing_of_other_tenants_and_other_targets
            a_pause_that_was_decided_in_the_future_is_over
            what_is_over_its_deadline_is_found_though_it_waits
            when_it_is_full_what_is_known_is_known_and_what_is_new_is_refused
            the_same_submission_under_a_key_is_the_same_run
            lists_show_the_newest_first_page_by_page
            what_ended_long_ago_is_removed_but_not_while_somebody_is_to_be_told
            a_message_is_tried_until_it_is_taken_and_can_be_sent_again
            a_receiver_that_is_gone_gets_nothing_more_until_it_is_sent_again
            large_runs_expire_a_few_at_a_time
            a_flood_to_one_receiver_hides_nothing_for_another
            a_tenant_has_its_own_secrets_one_after_the_other
            of_those_who_decide_at_once_one_wins
            an_effect_is_had_once_whoever_comes_at_the_same_time
            submissions_at_once_are_one_run_under_a_key_and_no_more_than_there_is_room_for
            a_change_that_nobody_waits_for_is_there_whole_or_not_at_all
            what_another_run_had_made_is_read_by_its_key
            lists_show_one_sort
            what_ended_since_is_found_in_the_order_of_the_ends
            a_change_that_is_not_synced_is_seen_at_once_and_decided_like_any_other
        );
        $crate::store_suite!($open, results:
            the_first_result_of_a_key_stays
            the_newest_result_of_a_stage_is_found_and_is_its_tenants
            all_results_are_read_page_by_page
            results_that_nobody_used_for_long_are_removed
            a_result_is_there_with_the_change_it_came_with_or_not_at_all
        );
        $crate::store_suite!($open, lineage:
            a_fact_is_kept_once_and_found_by_each_of_its_ends
            in_any_state_the_newest_fact_of_each_job_is_found
            a_tenant_finds_its_own_facts
            a_fact_is_there_with_the_change_it_came_with_or_not_at_all
            old_facts_are_removed_with_their_ends_and_no_others
            names_as_long_as_allowed_are_kept_and_hostile_ones_are_names
        );
        $crate::store_suite!($open, tracking:
            an_experiment_is_made_renamed_deleted_and_restored_with_its_runs
            a_tenant_has_experiments_and_runs_of_its_own
            a_run_has_what_was_logged_of_it_and_is_refused_when_deleted
            the_newest_value_of_a_metric_is_the_one_of_the_last_step_and_each_is_kept_once
            histories_of_several_runs_are_thinned_and_keep_their_ends
            what_is_logged_at_once_is_all_there
            one_who_is_refused_takes_nobody_with_him
            a_filter_finds_the_runs_that_it_says
            an_order_puts_what_has_no_value_last_and_pages_follow_each_other
            experiments_are_searched_by_name_tag_and_time
        );
        $crate::store_suite!($open, registry:
            a_logged_model_is_measured_tagged_finalized_and_deleted
            logged_models_are_searched_by_what_was_measured
            versions_are_numbered_moved_and_deleted_and_no_number_is_given_twice
            versions_made_at_once_have_numbers_of_their_own
            registered_models_and_versions_are_searched
            what_an_alias_stood_for_at_a_time_can_be_asked_as_it_was_known_then
        );
        $crate::store_suite!($open, rollouts:
            a_rollout_is_saved_with_what_it_does_or_not_at_all
            of_those_who_save_rollouts_at_once_one_wins
        );
        $crate::store_suite!($open, webhooks:
            a_webhook_is_made_listed_in_pages_changed_and_removed
            what_happened_is_told_and_what_was_refused_is_not
            what_happens_to_a_prompt_is_told_as_that
            who_is_disabled_or_listens_to_something_else_or_is_another_tenants_is_not_told
            what_waits_goes_to_a_webhooks_new_address_with_its_new_secret
            a_message_goes_when_it_was_delivered_or_given_up_and_a_receiver_that_is_gone_disables_its_webhook
            what_a_rollout_does_to_aliases_is_told_with_it_or_not_at_all
            whoever_brings_messages_is_woken_by_a_change_that_tells
        );
        $crate::store_suite!($open, memory:
            one_text_is_kept_for_each_name
            of_those_who_set_at_once_one_wins
        );
        $crate::store_suite!($open, batches:
            a_batch_moves_on_from_the_version_it_was_decided_on_and_is_its_tenants
            the_lines_of_a_batch_are_its_own_until_it_has_ended
            a_line_that_nobody_could_end_goes_with_its_batch_and_gives_its_room_back
            a_message_about_a_batch_is_sent_again_also_to_a_receiver_that_was_gone
            batches_made_at_once_are_no_more_than_a_tenant_may_have
        );
        $crate::store_suite!($open, files:
            a_file_is_its_tenants_until_it_is_deleted_or_expires
            files_are_listed_by_pages_in_their_order
            a_tenant_never_holds_more_than_its_limit
            a_file_that_is_written_piece_by_piece_is_there_when_it_is_whole
            files_put_at_once_are_no_more_than_a_tenant_may_hold
            a_large_file_is_read_from_anywhere_and_goes_when_it_expires
        );
        $crate::store_suite!($open, cache:
            the_least_recently_used_part_goes_first
            parts_put_at_once_are_never_more_than_the_limit
        );
        $crate::store_suite!($open, ledger:
            entries_and_position_are_applied_together_and_once
            the_newest_come_first_and_filters_hold
            every_bill_adds_up_to_the_same_sum
            hostile_figures_do_not_break_the_sums
            sums_are_exact_to_the_nanodollar
            names_that_a_column_cannot_hold_are_billed_and_found
        );
        $crate::store_suite!($open, keys:
            a_key_opens_until_it_is_revoked_or_expires
            keys_made_at_once_are_all_there_and_each_is_seen
        );
    };
    ($open:path, $of:ident: $($test:ident)*) => {
        mod $of {$(
            #[tokio::test]
            async fn $test() {
                if let Some((subject, _kept)) = $open().await {
                    $crate::stores::$of::$test(&subject).await;
                }
            }
        )*}
    };
}
