#!/usr/bin/env bash
# Checks on any computer that the program compiles for macOS: packaging/check-macos.sh [TARGET …]. Nothing is linked, so that neither
# Apple's SDK nor its C compiler is needed: what build scripts compile (SQLite, ring) is replaced by empty files.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- aarch64-apple-darwin x86_64-apple-darwin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/cc" <<'SH'
#!/bin/sh
# The file behind -o, empty. Build scripts also ask which compiler this is.
out=
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
[ -z "$out" ] || : >"$out"
SH
chmod +x "$work/cc"
for target in "$@"; do
    name=${target//-/_}
    export "CC_$name=$work/cc" "CXX_$name=$work/cc" "AR_$name=ar" SDKROOT=/ MACOSX_DEPLOYMENT_TARGET=11.0
    cargo check --locked --target "$target" -p mcp-esptool
    echo "$target: compiles"
done
