//! Core dumps with an app's ELF file: tasks, backtraces with source lines, variables.

mod report;
mod tcb;

pub use report::{Analysis, AnalysisError, ElfMatch, FrameReport, TaskReport, analyse};
pub use tcb::Tcb;
