#!/usr/bin/env bash
# Tries a cross-built Windows program under Wine: packaging/wine.sh target/x86_64-pc-windows-gnu/debug/mcp-esptool.exe
#
# Wine before 9 has no bcryptprimitives.dll, which Rust's standard library takes random numbers from; where mingw's compiler
# is there, a stand-in is made for this test. The program that people get needs none.
set -euo pipefail
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export WINEPREFIX="$work/prefix" WINEDEBUG=-all
wine=$(command -v wine64 || command -v wine || echo /usr/lib/wine/wine64)
cp "$program" "$work/mcp-esptool.exe"
cd "$work"
run() { timeout 180 "$wine" ./mcp-esptool.exe "$@"; }

if ! run --version >/dev/null 2>&1; then
    cat >random.c <<'C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL ProcessPrng(PBYTE data, SIZE_T size) { return RtlGenRandom(data, (ULONG)size); }
C
    x86_64-w64-mingw32-gcc -shared -o bcryptprimitives.dll random.c -ladvapi32
fi
run --version
run doctor | grep -q Settings
run demo | grep -q 'flashed and booted'
# A device over TCP and one over RFC 2217, served by the same program.
for line in tcp rfc2217; do
    run sim esp32c3 --$line 127.0.0.1:0 2>sim.log &
    for _ in $(seq 200); do grep -q '127.0.0.1:' sim.log && break; sleep 0.1; done
    port=$(grep -o '127.0.0.1:[0-9]*' sim.log | head -1)
    scheme=$([ $line = tcp ] && echo socket || echo rfc2217)
    run call esp_detect_chip "port=$scheme://$port" | grep -q ESP32-C3
    kill %% 2>/dev/null || true
done
hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"try","version":"1"}}}'
printf '%s\n' "$hello" | run serve | grep -q '"serverInfo"'
echo "Wine: version, doctor, demo, TCP, RFC 2217 and serve passed"
