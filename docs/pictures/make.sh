#!/bin/sh
# Makes the pictures of the documentation: sh docs/pictures/make.sh [FOLDER]. A test compares them with what is here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-docs/pictures}" && pwd)
work=$(mktemp -d)
trap 'mcp-esptool call esp_qemu_stop id=picture >/dev/null 2>&1; rm -rf "$work"' EXIT
export MCP_ESPTOOL_STATE_DIR="$work/state"
mkdir "$work/project" && cd "$work/project"

mcp-esptool recipe new fw/blink.toml --chip esp32c3
mcp-esptool call esp_partition_create layout=two_ota_spiffs flash_size=4MB output_file=table.bin
printf 'key,type,encoding,value\nwifi,namespace,,\nssid,data,string,bench\nchannel,data,u8,6\n' > nvs.csv
mcp-esptool call esp_nvs_partition_create data=nvs.csv size=0x5000 output_file=nvs.bin
mcp-esptool call esp_qemu_start chip_type=esp32c3 backend=builtin id=picture
mcp-esptool call esp_flash_firmware port=qemu://picture 'files=[
  {"path": "fw/bootloader.bin", "address": "0x0"}, {"path": "table.bin", "address": "0x8000"},
  {"path": "nvs.bin", "address": "0x9000"}, {"path": "fw/app.bin", "address": "0x10000"}]'
mcp-esptool call esp_flash_analyze port=qemu://picture picture_file=flash-map.svg
cp flash-map.svg "$out/flash-map.svg"

# What is drawn below needs the program that was built for the log and the linker's map: https://github.com/OOHehir/esp32blink-qemu,
# folder `build`, in $MCP_ESPTOOL_CORPUS/build/blink-esp32. Without it these pictures stay as they are.
build=${MCP_ESPTOOL_CORPUS:-}/build/blink-esp32
[ -f "$build/blink.elf" ] || exit 0
cp "$build/blink.elf" "$build/blink.map" "$here/panic.txt" .
mcp-esptool call esp_size_analysis elf_file=blink.elf treemap_file=size.svg >/dev/null
cp size.svg "$out/size.svg"
{
    printf '\033[32m$ mcp-esptool decode panic.txt --elf-file blink.elf\033[0m\n'
    mcp-esptool decode panic.txt --elf-file blink.elf 2>/dev/null | sed '/culprit:/,$d' | fold -s -w 106
} | python3 "$here/../screens/terminal.py" > "$out/crash.svg"
