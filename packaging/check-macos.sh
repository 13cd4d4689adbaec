#!/usr/bin/env bash
# Checks on any computer that the program compiles for macOS: packaging/check-macos.sh [TARGET …]; PROFILE=try takes that profile.
# Nothing is linked, so that neither Apple's SDK nor its C compiler is needed: what build scripts compile (SQLite, ring) is replaced
# by empty files.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- aarch64-apple-darwin x86_64-apple-darwin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/clang" <<'SH'
#!/bin/sh
# The file behind -o, empty. Build scripts first find out which compiler this is: it says so, and does not take Microsoft's options.
case $1 in
-E) echo '"clang"'; exit 0 ;;
-\?) exit 1 ;;
esac
out=
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
[ -z "$out" ] || : >"$out"
SH
chmod +x "$work/clang"
for target in "$@"; do
    name=${target//-/_}
    export "CC_$name=$work/clang" "CXX_$name=$work/clang" "AR_$name=ar" SDKROOT=/ MACOSX_DEPLOYMENT_TARGET=11.0
    cargo check --locked ${PROFILE:+--profile "$PROFILE"} --target "$target" -p mcp-esptool
    echo "$target: compiles"
done
