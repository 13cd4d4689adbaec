#!/bin/sh
# Packs the bundle for clients that install .mcpb files: packaging/mcpb.sh PROGRAM [OUTPUT]
set -eu
program=$1
output=$(realpath -m "${2:-mcp-esptool.mcpb}")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/server"
cp "$here/manifest.json" "$dir/"
cp "$program" "$dir/server/"
rm -f "$output"
(cd "$dir" && python3 -m zipfile -c "$output" manifest.json server/)
echo "$output"
