//! One snapshot a tool: what a client sees of it. A change of a schema is a decision, not an accident.
#![allow(clippy::unwrap_used)]

use mcp_esptool::{mcp, tools};

#[path = "tools/contract.rs"]
mod contract;
#[path = "tools/named.rs"]
mod named;
#[path = "tools/texts.rs"]
mod texts;

#[test]
fn every_tool_looks_as_before() {
    insta::with_settings!({prepend_module_to_snapshot => false, snapshot_path => "snapshots", omit_expression => true}, {
        for entry in tools::ALL {
            insta::assert_json_snapshot!(entry.name, mcp::listed_json(entry));
        }
    });
}

#[test]
fn names_are_unique_and_sets_stay_together() {
    let mut names: Vec<&str> = tools::ALL.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), tools::ALL.len());
    let sets = tools::sets();
    let mut unique = sets.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), sets.len(), "the tools of a set are not side by side: {sets:?}");
}
