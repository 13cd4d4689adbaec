#!/usr/bin/env bash
# Tries a cross-built Windows program under Wine: packaging/wine.sh target/x86_64-pc-windows-gnu/debug/mcp-esptool.exe
#
# Wine before 9 has no bcryptprimitives.dll, which Rust's standard library takes random numbers from; where mingw's compiler
# is there, a stand-in is made for this test. The program that people get needs none.
#
# Not tried: data over a COM port. Wine 8 opens a port without modem lines (a pseudo terminal) with an error, and where these are
# faked, an overlapped read with the time-outs that serial2 sets (MAXDWORD, MAXDWORD, time: "wait for the first byte") never ends.
set -euo pipefail
program=$(realpath "$1")
work=$(mktemp -d)
export WINEPREFIX="$work/prefix" WINEDEBUG=-all
wine=$(command -v wine64 || command -v wine || echo /usr/lib/wine/wine64)
server=$(command -v wineserver || echo /usr/lib/wine/wineserver)
# Ends every program of this prefix, also those that the tried one has left running.
trap '"$server" -k >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
cp "$program" "$work/mcp-esptool.exe"
cd "$work"
run() { timeout 120 "$wine" ./mcp-esptool.exe "$@"; }
step() { echo "-- $*"; }
# Runs the program; what it prints must have the text in it. Reads to the end of its output, as other programs do.
says() {
    local text=$1
    shift
    run "$@" </dev/null >said.log 2>&1 || [ "${may_fail:-no}" = yes ] || { cat said.log; exit 1; }
    grep -qF -- "$text" said.log || { echo "'$text' was not said by: $*"; cat said.log; exit 1; }
}
# A virtual device in the background; its address is in $address.
serve() {
    : >sim.log
    run sim esp32c3 "$1" 127.0.0.1:0 </dev/null >/dev/null 2>sim.log &
    for _ in $(seq 200); do grep -q '127.0.0.1:' sim.log && break; sleep 0.1; done
    address=$(grep -o '127.0.0.1:[0-9]*' sim.log | head -1)
}

if ! run --version >/dev/null 2>&1; then
    cat >random.c <<'C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL ProcessPrng(PBYTE data, SIZE_T size) { return RtlGenRandom(data, (ULONG)size); }
C
    x86_64-w64-mingw32-gcc -shared -o bcryptprimitives.dll random.c -ladvapi32
fi
says mcp-esptool --version
says 'flashed and booted' demo

step "paths as people write them"
says Settings doctor
! grep -E '\\\\\?\\|\\[^ ]*/' said.log || { echo "a path is not plain"; exit 1; }
says 'COM1' ports

step "files, a recipe, the ledger, a batch"
says 'blink.toml' recipe new 'fw\blink.toml' --chip esp32c3
says '' ledger add-pool pool=serials kind=serial prefix=SN- count=20
says '' ledger add-pool pool=macs kind=mac first=02:00:00:00:10:00 step=4 count=20
says '3 of 3' call esp_batch_program 'firmware=fw\blink.toml' 'ports=["sim://esp32c3-[1-3]"]'
says exported ledger export file=units.csv
grep -q SN-00003 units.csv
says '' ledger verify

step "a device over TCP and one over RFC 2217, and who holds it"
serve --rfc2217
says ESP32-C3 call esp_detect_chip "port=rfc2217://$address"
serve --tcp
says ESP32-C3 call esp_detect_chip "port=socket://$address"
seen=no
for _ in 1 2 3; do
    run call esp_console_capture "port=socket://$address" duration_s=15 </dev/null >/dev/null 2>&1 &
    sleep 5
    may_fail=yes says '' call esp_detect_chip "port=socket://$address"
    ! grep -q 'port_busy.*esp_console_capture' said.log || seen=yes
    wait $! || true
    [ $seen = no ] || break
done
[ $seen = yes ] || { echo "the lock was not seen"; cat said.log; exit 1; }

# Wine itself hands standard error on to every program, so that is not looked at.
step "a daemon that keeps nobody's pipe: a console, a virtual device"
timeout 60 bash -c '"$1" ./mcp-esptool.exe console open -p "$2" </dev/null 2>/dev/null | cat >open.log' _ "$wine" "socket://$address" ||
    { echo "whoever reads the output waits for the daemon"; exit 1; }
says "$address" console list
timeout 60 bash -c '"$1" ./mcp-esptool.exe call esp_qemu_start chip_type=esp32c3 backend=builtin id=one keep=true </dev/null 2>/dev/null | cat >start.log' _ "$wine" ||
    { echo "whoever reads the output waits for the virtual device"; exit 1; }
says ESP32-C3 call esp_detect_chip port=qemu://one
says one call esp_qemu_stop id=one

step "an MCP client"
hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"try","version":"1"}}}'
list='{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
printf '%s\n' "$hello" "$list" | run serve >serve.log 2>/dev/null
grep -q '"serverInfo"' serve.log
grep -q 'esp_flash_firmware' serve.log
says '"command"' install --dry-run --cursor
echo "Wine: version, demo, paths, recipe, ledger, batch, TCP, RFC 2217, locks, daemons, serve and install passed"
