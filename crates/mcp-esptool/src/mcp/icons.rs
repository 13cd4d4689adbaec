//! Icons: of the server, and a small one for each set of tools. They are part of the answer, so that no client has to
//! fetch anything.

use rmcp::model::Icon;

/// The program's icon, as in `packaging/icon.svg`.
const SERVER: &str = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAyNTYgMjU2Ij48cmVjdCB3aWR0aD0iMjU2IiBoZWlnaHQ9IjI1NiIgcng9IjQ4IiBmaWxsPSIjMWQyNzMzIi8+PHJlY3QgeD0iNjQiIHk9IjY0IiB3aWR0aD0iMTI4IiBoZWlnaHQ9IjEyOCIgcng9IjE2IiBmaWxsPSIjZTczNTJjIi8+PHBhdGggZD0iTTk2IDEwNGwyOCAyNC0yOCAyNE0xMzIgMTU2aDMyIiBmaWxsPSJub25lIiBzdHJva2U9IiNmZmYiIHN0cm9rZS13aWR0aD0iMTQiLz48L3N2Zz4=";

/// What a set's icon shows, drawn in a square of 8.
static SETS: &[(&str, &str)] = &[
    ("chip", "M1 1h6v6H1z"),
    ("flash", "M5 0L1 5h3L3 8l4-5H4z"),
    ("firmware", "M1 0h4l2 2v6H1z"),
    ("security", "M1 4h6v4H1zM2 4V2a2 2 0 014 0v2H5V2H3v2z"),
    ("virtual", "M0 1h8v5H0zM2 7h4v1H2z"),
    ("diagnostics", "M0 4h2l1-3 2 6 1-3h2v1H6L5 8 3 3v2H0z"),
    ("core", "M4 0a4 4 0 110 8V0z"),
    ("partition", "M0 0h8v2H0zM0 3h8v2H0zM0 6h5v2H0z"),
    ("ota", "M4 0l3 3H5v3H3V3H1zM0 7h8v1H0z"),
    ("production", "M0 8V4l3 1V4l3 1V0h2v8z"),
];

/// The server's icon.
pub(super) fn server() -> Icon {
    Icon::new(SERVER).with_mime_type("image/svg+xml").with_sizes(vec!["any".into()])
}

/// The icon of a set of tools.
pub(super) fn of_set(set: &str) -> Option<Icon> {
    let (_, path) = SETS.iter().find(|(name, _)| *name == set)?;
    let drawn = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><path d='";
    Some(Icon::new(format!("{drawn}{path}'/></svg>")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_an_icon() {
        for set in crate::tools::sets() {
            let icon = of_set(set).unwrap_or_else(|| panic!("{set} has no icon"));
            assert!(icon.src.len() < 180, "{set}: {} bytes", icon.src.len());
        }
    }
}
