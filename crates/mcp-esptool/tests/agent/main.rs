//! Ordinary jobs as an assistant does them that has nothing but this server: scripted sessions over stdio that see only the
//! text of each answer. Each job has a budget of calls and ends in a state that is looked at from outside.
#![allow(clippy::unwrap_used)]

#[path = "../support/client.rs"]
mod client;
mod devices;
mod files;
mod production;
mod session;
