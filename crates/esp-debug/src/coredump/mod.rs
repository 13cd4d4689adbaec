//! Core dumps with an app's ELF file: tasks, backtraces with source lines, variables.

mod report;
mod tcb;

pub(crate) use report::task_report;
pub use report::{Analysis, AnalysisError, ElfMatch, FrameReport, TaskReport, analyse, backtrace};
pub use tcb::Tcb;
