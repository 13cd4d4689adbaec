# Everything is a test.
test:
    cargo test --workspace

# What CI runs before the tests.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check

# Flash a virtual chip through MCP.
demo:
    cargo run --release -- demo

# Generated documents and snapshots.
docs:
    cargo run -- docs
    INSTA_UPDATE=always cargo test -p mcp-esptool --test tools

# The tests against other people's tools only.
reference:
    cargo test -p esp-model --test reference
    cargo test -p mcp-esptool --test reference

# Speed beside the reference tools: transfers, files (docs/performance.md).
bench:
    cargo bench -p mcp-esptool

# Packages of this computer's platform in dist/, each installed into an empty folder and tried.
package target="x86_64-unknown-linux-musl":
    cargo build --release --target {{target}} -p mcp-esptool
    python3 packaging/package.py {{target}} target/{{target}}/release/mcp-esptool dist
    python3 packaging/try.py {{target}} target/{{target}}/release/mcp-esptool
