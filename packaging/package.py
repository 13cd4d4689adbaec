#!/usr/bin/env python3
"""Makes the packages of one built program: archive, npm, .mcpb, container image, manifests of the package managers.

    packaging/package.py TARGET PROGRAM [OUTPUT]      e.g. x86_64-unknown-linux-musl target/.../mcp-esptool dist
    packaging/package.py finish OUTPUT                manifests and checksums, once the archives of all platforms are there
    packaging/package.py dynamic PROGRAM OUTPUT       the archive of the program that loads PKCS#11 modules
    packaging/package.py mcpb TARGET PROGRAM OUTPUT   the bundle alone
    packaging/package.py wheel TARGET OUTPUT          the wheel of a release build, by maturin (pyproject.toml)
    packaging/package.py buttons                      links that add the server to Cursor and VS Code

Needs Python 3.9 and, for the npm packages, npm. Nothing is downloaded.
"""
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import zipfile
from pathlib import Path

import oci

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NAME = "mcp-esptool"
TARGETS = {entry["target"]: entry for entry in json.loads((HERE / "targets.json").read_text())}


def metadata(*more):
    line = ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path", str(ROOT / "Cargo.toml"), *more]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)["packages"]


def version_here():
    return next(package["version"] for package in metadata("--no-deps") if package["name"] == NAME)


def licences(target):
    """The licence texts of all crates for a target, each once, with the crates that it applies to."""
    texts = {}
    for package in sorted(metadata("--filter-platform", target), key=lambda package: package["name"]):
        if package["source"] is None:
            continue
        folder = Path(package["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")):
                text = file.read_text(errors="replace").strip()
                users = texts.setdefault(text, [])
                users.append(f"{package['name']} {package['version']} ({package['license'] or 'see text'})")
    parts = [f"{', '.join(dict.fromkeys(users))}\n{'-' * 79}\n{text}\n" for text, users in texts.items()]
    head = (ROOT / "THIRD_PARTY.md").read_text()
    return head + "\n" + ("=" * 79 + "\n").join([""] + parts)


def archive(output, target, program, extra):
    """NAME-TARGET.tar.gz (zip for Windows) with the program, licences, README, completions and man pages."""
    stem = f"{NAME}-{target}"
    windows = "windows" in target
    files = {f"{NAME}.exe" if windows else NAME: program.read_bytes(), **extra}
    for name in ("README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"):
        files[name] = (ROOT / name).read_bytes()
    if windows:
        path = output / f"{stem}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in files.items():
                bundle.writestr(f"{stem}/{name}", content)
        return path
    path = output / f"{stem}.tar.gz"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size, entry.mode = len(content), 0o755 if name == NAME else 0o644
            bundle.addfile(entry, io.BytesIO(content))
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(raw.getvalue())
    return path


def dynamic(program, output):
    """The archive of a program for this computer's kind of Linux that loads shared libraries."""
    start = program.read_bytes()[:64]
    assert start.startswith(b"\x7fELF"), f"{program} is not a program for Linux"
    machine = {0x3E: "x86_64", 0xB7: "aarch64"}[int.from_bytes(start[18:20], "little")]
    assert b"ld-linux" in program.read_bytes(), f"{program} is static: it cannot load PKCS#11 modules"
    output.mkdir(parents=True, exist_ok=True)
    target = f"{machine}-unknown-linux-gnu"
    print(archive(output, target, program, {"THIRD_PARTY.txt": licences(target).encode()}))


def npm(output, version, target, program):
    """The launcher's package and the one with this platform's program, as `npm publish` takes them."""
    about = TARGETS[target]
    base = json.loads((HERE / "npm/package.json").read_text())
    base["version"] = version
    base["optionalDependencies"] = {f"@{NAME}/{entry['npm']}": version for entry in TARGETS.values()}
    platform = {key: base[key] for key in ("version", "license", "homepage", "repository")}
    platform |= {"name": f"@{NAME}/{about['npm']}", "description": f"{NAME} for {about['os']} {about['cpu']}"}
    platform |= {"os": [about["os"]], "cpu": [about["cpu"]], "preferUnplugged": True, "files": ["bin"]}
    for manifest, content, file in (
        (base, (HERE / "npm/launcher.js").read_bytes(), f"{NAME}.js"),
        (platform, program.read_bytes(), f"{NAME}.exe" if about["os"] == "win32" else NAME),
    ):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "bin").mkdir()
            (folder / "package.json").write_text(json.dumps(manifest, indent=2))
            (folder / "bin" / file).write_bytes(content)
            (folder / "bin" / file).chmod(0o755)
            shutil.copy(ROOT / "README.md", folder / "README.md")
            line = ["npm", "pack", "--silent", "--pack-destination", str(output.resolve())]
            subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def mcpb(output, version, target, program, licence_text):
    """The bundle that clients install by a click; one platform each."""
    manifest = json.loads((HERE / "manifest.json").read_text())
    about = TARGETS[target]
    manifest["version"] = version
    manifest["compatibility"]["platforms"] = [about["os"]]
    entry = manifest["server"]["entry_point"] + (".exe" if about["os"] == "win32" else "")
    manifest["server"]["entry_point"] = entry
    path = output / f"{NAME}-{about['os']}-{about['cpu']}.mcpb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("manifest.json", json.dumps(manifest, indent=2))
        bundle.writestr("icon.png", (HERE / "icon.png").read_bytes())
        bundle.writestr("THIRD_PARTY.txt", licence_text)
        info = zipfile.ZipInfo(entry)
        info.external_attr, info.compress_type = 0o100755 << 16, zipfile.ZIP_DEFLATED
        bundle.writestr(info, program.read_bytes())
    return path


def wheel(target, output, profile="release"):
    """The build is the one that made the program: cargo finds it in its target folder."""
    line = ["maturin", "build", "--profile", profile, "--locked", "--offline", "--out", str(Path(output).resolve())]
    about = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    if f"host: {target}\n" not in about:
        line += ["--target", target]
    if "-linux-" in target:
        # A static program runs on every Linux, so its wheel says so; another one names what it needs.
        static = "-musl" in target
        line += ["--compatibility", *(["manylinux2014", "musllinux_1_1"] if static else ["linux"])]
    subprocess.run(line, cwd=ROOT, check=True)


def buttons():
    """Links that add the installed server to Cursor and VS Code (README.md has them)."""
    config = {"command": NAME, "args": ["serve"]}
    cursor = base64.b64encode(json.dumps(config).encode()).decode()
    vscode = urllib.parse.quote(json.dumps({"type": "stdio", **config}, separators=(",", ":")))
    return {
        "cursor": f"https://cursor.com/en/install-mcp?name=esptool&config={urllib.parse.quote(cursor)}",
        "vscode": f"https://vscode.dev/redirect/mcp/install?name=esptool&config={vscode}",
    }


def fill(output, version, sums):
    """Manifests of Homebrew, Scoop, winget, AUR and Nix, with the checksums of the archives that are in `output`."""
    values = {"version": version}
    for target, entry in TARGETS.items():
        values["sha256_" + entry["npm"].replace("-", "_")] = sums.get(target, "0" * 64)
    for template in sorted(HERE.glob("*/*.in")):
        text = template.read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        place = output / "manifests" / template.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / template.name.removesuffix(".in")).write_text(text)


def finish(output):
    """Manifests and SHA256SUMS of what lies in `output`; a release calls it again when all platforms are there."""
    output = Path(output)
    version = version_here()
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    archives = ((target, output / f"{NAME}-{target}{end}") for target in TARGETS for end in (".tar.gz", ".zip"))
    fill(output, version, {target: digest(path) for target, path in archives if path.exists()})
    server = json.loads((ROOT / "server.json").read_text())
    release = f"https://github.com/mcp-esptool/mcp-esptool/releases/download/v{version}"
    for path in sorted(output.glob("*.mcpb")):
        bundle = {"registryType": "mcpb", "identifier": f"{release}/{path.name}", "version": version}
        server["packages"].append(bundle | {"fileSha256": digest(path), "transport": {"type": "stdio"}})
    (output / "manifests" / "server.json").write_text(json.dumps(server, indent=2))
    with tarfile.open(output / "manifests.tar.gz", "w:gz") as bundle:
        bundle.add(output / "manifests", "manifests")
    (output / "wheels").mkdir(exist_ok=True)
    for wheel in output.glob("*.whl"):
        wheel.rename(output / "wheels" / wheel.name)
    files = [path for path in sorted(output.iterdir()) if path.is_file() and path.name != "SHA256SUMS"]
    (output / "SHA256SUMS").write_text("".join(f"{digest(path)}  {path.name}\n" for path in files))


def main(target, program, output="dist"):
    program, output = Path(program), Path(output)
    output.mkdir(parents=True, exist_ok=True)
    version, licence_text = version_here(), licences(target)
    packed = archive(output, target, program, {"THIRD_PARTY.txt": licence_text.encode()})
    made = [packed, mcpb(output, version, target, program, licence_text)]
    about = TARGETS[target]
    # A program that needs libraries starts in no empty image.
    if about["os"] == "linux" and b"/ld-" not in program.read_bytes()[:4096]:
        path = output / f"{NAME}-linux-{about['cpu']}.oci.tar"
        made.append(oci.image(path, version, about["cpu"], program.read_bytes()))
    if shutil.which("npm"):
        npm(output, version, target, program)
    else:
        print("npm was not found: no npm packages", file=sys.stderr)
    finish(output)
    print(*made, output / "SHA256SUMS", sep="\n")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] == "buttons":
        print(json.dumps(buttons(), indent=2))
    elif len(sys.argv) == 5 and sys.argv[1] == "mcpb":
        target, program, output = sys.argv[2:]
        print(mcpb(Path(output), version_here(), target, Path(program), licences(target)))
    elif len(sys.argv) == 4 and sys.argv[1] == "wheel":
        wheel(*sys.argv[2:])
    elif len(sys.argv) == 4 and sys.argv[1] == "dynamic":
        dynamic(Path(sys.argv[2]), Path(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "finish":
        finish(sys.argv[2])
    elif len(sys.argv) in (3, 4) and sys.argv[1] in TARGETS:
        main(*sys.argv[1:])
    else:
        sys.exit(__doc__ + "\nTargets: " + ", ".join(TARGETS))
