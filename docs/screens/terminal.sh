#!/bin/sh
# Makes the pictures of the terminal: sh docs/screens/terminal.sh [FOLDER]. Needs tmux and python3, and mcp-esptool in PATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-$here}" && pwd)
work=$(mktemp -d)
export MCP_ESPTOOL_STATE_DIR="$work/state" XDG_RUNTIME_DIR="$work" XDG_CONFIG_HOME="$work" TERM=xterm-256color LC_ALL=C.UTF-8
unset NO_COLOR TMUX
mux() { tmux -f /dev/null -u -S "$work/socket" "$@"; }
trap 'mux kill-server 2>/dev/null; kill $board $console 2>/dev/null; rm -rf "$work"' EXIT
board= console=
cd "$work"

# A board on a line that takes its time.
mcp-esptool sim esp32 --rfc2217 127.0.0.1:7461 --baud-pacing 2>/dev/null </dev/null & board=$!
python3 -c 'import random, sys; random.seed(1); sys.stdout.buffer.write(random.randbytes(400000))' > app.bin
# A console that says what programs say.
python3 - <<'SERVER' & console=$!
import socket, time
LINES = """ESP-ROM:esp32c3-api1-20210207
rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)
I (30) boot: ESP-IDF v5.3.1 2nd stage bootloader
I (62) boot:  0 nvs              WiFi data        01 02 00009000 00006000
I (312) main_task: Calling app_main()
W (318) sensor: no answer at 0x76, trying 0x77
E (420) sensor: I2C bus is stuck: SDA is low
I (500) wifi: connected to bench, channel 6
Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.

Core  0 register dump:
MEPC    : 0x42007a3c  RA      : 0x42007a2e  SP      : 0x3fc8f5a0  GP      : 0x3fc8a800
MCAUSE  : 0x00000005  MTVAL   : 0x00000000
Rebooting...
"""
client, _ = socket.create_server(("127.0.0.1", 7462)).accept()
time.sleep(1)
client.sendall(LINES.replace("\n", "\r\n").encode())
time.sleep(60)
SERVER
sleep 2

mux new-session -d -s monitor -x 92 -y 30 "clear; mcp-esptool monitor socket://127.0.0.1:7462; sleep 60"
ports='remote_ports=bench=rfc2217://127.0.0.1:7461,other=sim://esp32c3'
mux new-session -d -s flash -x 92 -y 30 "clear; mcp-esptool --set '$ports' flash -b 115200 0x10000 app.bin; sleep 60"
sleep 6
mux capture-pane -e -p -t monitor | python3 "$here/terminal.py" > "$out/monitor.svg"
mux send-keys -t flash 1 Enter
sleep 12
mux capture-pane -e -p -t flash | python3 "$here/terminal.py" > "$out/flash.svg"
