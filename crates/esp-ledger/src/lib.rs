//! Remembers what happened to each produced unit.
