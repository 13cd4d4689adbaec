//! Errors of files: core dumps and maps.

use esp_debug::coredump::AnalysisError;
use esp_model::coredump::CoreDumpError;
use esp_model::image::size;

use super::{Code, ToolError};

impl From<CoreDumpError> for ToolError {
    fn from(error: CoreDumpError) -> Self {
        let code = match error {
            CoreDumpError::Blank => Code::NoCoreDump,
            CoreDumpError::Checksum { .. } | CoreDumpError::Line { .. } | CoreDumpError::Headless => {
                Code::CoreDumpDamaged
            }
            // Lines of a console were lost, or its end.
            CoreDumpError::Cut { what, .. } if what.starts_with("dump") => Code::CoreDumpDamaged,
            CoreDumpError::Which { .. } => Code::BadParameter,
            _ => Code::CoreDumpInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AnalysisError> for ToolError {
    fn from(error: AnalysisError) -> Self {
        Self::new(Code::ForeignElf, error.to_string())
    }
}

impl From<size::SizeError> for ToolError {
    fn from(error: size::SizeError) -> Self {
        let code = match &error {
            size::SizeError::Elf(_) => Code::ElfInvalid,
            size::SizeError::Map(_) | size::SizeError::NoChip => Code::MapInvalid,
            size::SizeError::UnknownChip(_) => Code::NotSupportedByChip,
        };
        Self::new(code, error.to_string())
    }
}
