//! A price list is read or refused; what is read can be looked up.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::price::PriceTable;

fuzz_target!(|data: &[u8]| {
    let Ok(table) = PriceTable::from_litellm(data) else { return };
    assert_eq!(table.models().count(), table.len());
    // Ids are looked up without the spaces around them, so one that has some is not found.
    for (model, _) in table.models().filter(|(model, _)| model.trim() == *model) {
        assert!(table.rates(model).is_some(), "a model of the table has its rates");
        assert!(table.find(model).is_some());
    }
    let _ = (table.find(""), table.find("openai/gpt-5-mini-2025-08-07"), format!("{table:?}").len());
});
