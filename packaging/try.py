#!/usr/bin/env python3
"""Installs each package into an empty folder and runs it: the demonstration, and `initialize` over MCP.

    packaging/try.py TARGET PROGRAM       for this computer's platform; offline

What cannot be tried here (no npm, no maturin) is named at the end, never counted as passed.
"""
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import package

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "try", "version": "1"}},
}


def works(line, cwd):
    """The demonstration runs, and the server answers `initialize` with our version."""
    demo = subprocess.run([*line, "demo"], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert demo.returncode == 0 and "booted" in demo.stdout, demo.stdout + demo.stderr
    ask = json.dumps(INITIALIZE) + "\n"
    serve = subprocess.run([*line, "serve"], cwd=cwd, input=ask, capture_output=True, text=True, timeout=60)
    answer = json.loads(serve.stdout.splitlines()[0])
    assert answer["result"]["serverInfo"]["name"] == "mcp-esptool", answer
    refused = subprocess.run([*line, "call", "esp_nothing"], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert refused.returncode not in (0, 127), "the exit code is lost"


def try_archive(dist, target, folder):
    with tarfile.open(dist / f"{package.NAME}-{target}.tar.gz") as bundle:
        bundle.extractall(folder, filter="data")
    inside = folder / f"{package.NAME}-{target}"
    assert "serialport" in (inside / "THIRD_PARTY.txt").read_text()
    works([str(inside / package.NAME)], folder)


def try_npm(dist, target, folder):
    tarballs = sorted(str(path) for path in dist.glob("*.tgz"))
    subprocess.run(["npm", "init", "-y"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    line = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", "--omit=optional", *tarballs]
    subprocess.run(line, cwd=folder, check=True)
    works(["npx", "--offline", package.NAME], folder)


def try_mcpb(dist, target, folder):
    (bundle,) = dist.glob("*.mcpb")
    with zipfile.ZipFile(bundle) as packed:
        packed.extractall(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    program = folder / manifest["server"]["entry_point"]
    program.chmod(0o755)
    assert (folder / manifest["icon"]).read_bytes().startswith(b"\x89PNG")
    works([str(program)], folder)


def try_wheel(dist, target, folder):
    """The build is the one that made PROGRAM: cargo finds it in its target folder."""
    line = ["maturin", "build", "--release", "--locked", "--offline", "--target", target, "--out", str(folder)]
    subprocess.run([*line, "--compatibility", "musllinux_1_1"], cwd=package.ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        assert any("/sboms/" in name for name in names), names
        # pip refuses musllinux tags on other systems; the program is static, so its script is what is tried.
        (script,) = [name for name in names if "/scripts/" in name]
        packed.extract(script, folder)
    program = folder / script
    program.chmod(0o755)
    works([str(program)], folder)


def main(target, program):
    tries = {"archive": try_archive, "mcpb": try_mcpb, "npm": try_npm, "wheel": try_wheel}
    needs = {"npm": "npm", "wheel": "maturin"}
    left = {}
    with tempfile.TemporaryDirectory() as dist:
        package.main(target, program, dist)
        for name, attempt in tries.items():
            if name in needs and not shutil.which(needs[name]):
                left[name] = f"{needs[name]} was not found"
                continue
            with tempfile.TemporaryDirectory() as folder:
                attempt(Path(dist), target, Path(folder))
            print(f"{name}: installed, demo and initialize passed", flush=True)
    for name, why in left.items():
        print(f"{name}: not tried, {why}")


if __name__ == "__main__":
    os.chdir(package.ROOT)
    main(*sys.argv[1:])
