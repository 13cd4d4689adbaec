#!/usr/bin/env python3
"""Installs each package into an empty folder and runs it: the demonstration, and `initialize` over MCP.

    packaging/try.py TARGET PROGRAM       for this computer's platform; offline

What cannot be tried here (no npm, no maturin, no container of a program that needs libraries) is named at the end, never counted as passed. `TRY_ONLY=archive,npm` tries
these alone; `TRY_PROFILE=dev` makes the wheel from a debug build.
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

import oci
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
    licences = (inside / "THIRD_PARTY.txt").read_text()
    assert "serde_json 1" in licences and "windows-sys" not in licences, "not the licences of what is linked in"
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


def try_oci(dist, target, folder):
    """As root within the image's own root folder, with /proc as a container engine mounts it, else the program alone."""
    (file,) = dist.glob("*.oci.tar")
    config = oci.unpack(file, folder)["config"]
    server = json.loads((package.ROOT / "server.json").read_text())
    assert config["Labels"]["io.modelcontextprotocol.server.name"] == server["name"], config
    if os.geteuid() == 0:
        begin = 'mkdir -p "$0/proc"; mount --rbind /proc "$0/proc"; exec chroot "$0" "$@"'
        inside = ["unshare", "--mount", "sh", "-ec", begin, str(folder)]
        works(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *config["Env"], *inside, *config["Entrypoint"]], folder)
    else:
        works([str(folder / package.NAME)], folder)


def try_wheel(dist, target, folder):
    """pip installs the wheel as users do."""
    package.wheel(target, folder, os.environ.get("TRY_PROFILE", "release"))
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    assert any("/sboms/" in name for name in names), names
    assert any("/licenses/LICENSE-MIT" in name for name in names), names
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv/bin/pip"), "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    works([str(folder / "venv/bin" / package.NAME)], folder)


def main(target, program):
    tries = {"archive": try_archive, "mcpb": try_mcpb, "npm": try_npm, "oci": try_oci, "wheel": try_wheel}
    needs = {"npm": "npm", "wheel": "maturin"}
    only = os.environ.get("TRY_ONLY", ",".join(tries)).split(",")
    left = {}
    with tempfile.TemporaryDirectory() as dist:
        if only != ["wheel"]:
            package.main(target, program, dist)
        for name, attempt in tries.items():
            if name not in only:
                continue
            if name in needs and not shutil.which(needs[name]):
                left[name] = f"{needs[name]} was not found"
                continue
            if name == "oci" and not list(Path(dist).glob("*.oci.tar")):
                left[name] = "the program is not a static one for Linux"
                continue
            with tempfile.TemporaryDirectory() as folder:
                attempt(Path(dist), target, Path(folder))
            print(f"{name}: installed, demo and initialize passed", flush=True)
    for name, why in left.items():
        print(f"{name}: not tried, {why}")


if __name__ == "__main__":
    os.chdir(package.ROOT)
    main(*sys.argv[1:])
