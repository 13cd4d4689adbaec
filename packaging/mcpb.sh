#!/bin/sh
# Packs the bundle for clients that install .mcpb files: packaging/mcpb.sh PROGRAM [OUTPUT]. One program, one platform.
set -eu
program=$1
output=${2:-mcp-esptool.mcpb}
here=$(cd "$(dirname "$0")" && pwd)
python3 - "$here/manifest.json" "$program" "$output" <<'END'
import json, sys, zipfile

manifest, program, output = sys.argv[1:]
about = json.load(open(manifest))
magic = open(program, "rb").read(4)
platform = "linux" if magic == b"\x7fELF" else "win32" if magic[:2] == b"MZ" else "darwin"
about["compatibility"]["platforms"] = [platform]
name = about["server"]["entry_point"] + (".exe" if platform == "win32" else "")
about["server"]["entry_point"] = name
with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as bundle:
    bundle.writestr("manifest.json", json.dumps(about, indent=2))
    entry = zipfile.ZipInfo(name)
    entry.external_attr, entry.compress_type = 0o100755 << 16, zipfile.ZIP_DEFLATED
    bundle.writestr(entry, open(program, "rb").read())
print(output)
END
