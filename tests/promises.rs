//! What the cache promises, and where each promise is held to. A test reads this table and looks for each function.
//!
//! | promise | file | test |
//! |---|---|---|
//! | P1 never a wrong answer | tests/model.rs | it_may_miss_but_it_never_lies |
//! | P1 | tests/disk_damage.rs | a_damaged_file_brings_no_wrong_answer |
//! | P1 | tests/disk_faults.rs | a_power_cut_loses_nothing_that_was_flushed |
//! | P1 | tests/key_fields.rs | each_documented_field_changes_the_key_but_the_written_exclusions |
//! | P1 | tests/key_messages.rs | each_member_of_a_message_changes_the_key |
//! | P1 | tests/foreign/secrets.rs | forged_entry_is_a_miss |
//! | P2 never another tenant's answer | tests/scopes.rs | no_answer_crosses_from_one_scope_to_another |
//! | P2 | tests/cache.rs | two_credentials_never_share_an_answer_unless_they_say_so |
//! | P2 | tests/cache_key.rs | scopes_do_not_meet |
//! | P3 never a part, a failure or an act stored | tests/policy.rs | the_table_of_what_may_be_stored |
//! | P3 | tests/cache.rs | a_stream_cut_anywhere_before_its_end_marker_is_never_stored |
//! | P3 | tests/dialects.rs | what_depends_on_more_than_the_request_is_a_bypass |
//! | P4 trouble with the cache fails no call | tests/disk_faults.rs | an_error_at_any_operation_fails_no_call |
//! | P4 | tests/disk_faults.rs | a_sync_that_hangs_delays_nobody |
//! | P4 | tests/disk_faults.rs | a_read_that_hangs_is_a_miss_within_its_deadline |
//! | P4 | tests/disk_faults.rs | a_second_owner_waits_and_takes_over |
//! | P4 | tests/soak.rs | five_seconds_under_faults_leave_nothing_behind |
//! | P5 identical calls are one | tests/cache.rs | ten_thousand_identical_callers_make_one_upstream_call |
//! | P5 | tests/cache.rs | a_storm_of_leaving_callers_costs_one_call_and_serves_the_patient_one |
//! | P5 | tests/flight_schedules.rs | equal_callers_make_one_call_in_any_order |
//! | P5 | tests/flights.rs | a_panic_below_is_one_error_for_each_caller_and_the_next_call_starts_afresh |
//! | P5 | tests/flights.rs | an_upstream_that_falls_silent_is_an_error_to_all_and_stores_nothing |
//! | P6 a crash loses a moment, and the file opens | tests/disk_kill.rs | a_kill_loses_nothing_that_was_flushed |
//! | P6 | tests/disk.rs | the_first_released_format_is_read |
//! | P7 memory and file stay within their bounds | tests/disk.rs | distinct_answers_stay_within_both_bounds |
//! | P7 | tests/disk_faults.rs | many_stores_stay_within_the_bounds |
//! | P8 a purge is immediate and covers what is on its way | tests/policy.rs | a_purge_of_a_scope_or_of_all_outlives_the_process_that_did_it |
//! | P8 | tests/policy.rs | a_purge_of_a_scope_covers_what_is_on_its_way |
//! | P8 | tests/flights.rs | a_purge_or_an_invalidation_in_the_middle_of_a_flight_ends_joining_and_storing |
//! | P9 hard budgets are never exceeded | tests/budget.rs | eight_threads_with_lost_tickets_never_overspend_and_the_sums_are_exact |
//! | P9 | tests/budget.rs | the_limit_is_hit_exactly_and_not_a_picodollar_beyond |
//! | P10 secrets stay where they are | tests/foreign/secrets.rs | canaries_are_nowhere |
//! | P10 | tests/foreign/secrets.rs | hostile_directory_refused |
//! | P10 | tests/numbers.rs | each_event_is_told_to_tracing_without_a_secret |
//! | P11 one entry for all spellings, another for all else | tests/cache_key.rs | every_spelling_of_a_body_has_one_key |
//! | P11 | tests/cache_key.rs | every_change_of_what_a_body_says_changes_its_key |
//! | P11 | tests/streams.rs | one_stored_answer_serves_both_kinds_of_callers_whoever_paid |
//! | P12 each promise has a test | tests/promises.rs | each_promise_has_tests_and_each_test_is_there |

#[test]
fn each_promise_has_tests_and_each_test_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut held = std::collections::BTreeSet::new();
    for row in include_str!("promises.rs").lines().filter_map(|line| line.strip_prefix("//! | P")) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [promise, file, test] = cells[..] else { panic!("a row has three cells: {row}") };
        let number: u32 = promise.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        let head = text.split(&format!("fn {test}(")).next().filter(|head| head.len() < text.len());
        let head = head.unwrap_or_else(|| panic!("{file} has no test named {test}"));
        // Within `proptest!` it is a test too; one that is left out holds nothing.
        let marks: Vec<&str> = head.trim_end().lines().rev().take(3).collect();
        assert!(marks.iter().any(|mark| mark.contains("test")), "{file}: {test} is no test");
        assert!(!marks.iter().any(|mark| mark.contains("#[ignore")), "{file}: {test} is left out");
        held.insert(number);
    }
    assert_eq!(held, (1..=12).collect(), "promises without a test");
}
