# A few minutes: unit tests, and the client against the simulator (config in .config/nextest.toml).
quick:
    cargo nextest run --workspace --profile quick

# The README's command: everything that a plain machine can run.
test:
    cargo test --workspace

# What CI runs before the tests.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo deny check

# Flash a virtual chip through MCP.
demo:
    cargo run --profile try --no-default-features -- demo

# Generated documents (needs `cargo install cargo-insta`); what changed in the tools' schemas is shown, one by one, to be accepted or refused.
docs:
    cargo run -- docs
    cargo insta test --review -p mcp-esptool --test tools

# The contract of the last release (tests/golden) becomes that of this version: at a release only.
release-contract:
    CONTRACT=release cargo test -p mcp-esptool --test tools contract

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

# The same as a dynamic program, which can load PKCS#11 modules: archive in dist/.
package-dynamic:
    cargo build --release -p mcp-esptool
    python3 packaging/package.py dynamic target/release/mcp-esptool dist
