"""The container image of a static program for Linux, as an OCI layout in a tar archive; no container engine is needed.

`skopeo copy oci-archive:FILE docker://…`, `podman load` and `docker load` take it. Settings, labels and the command are those of
the last stage of packaging/Dockerfile, which makes the same image from the sources.
"""
import gzip
import hashlib
import io
import json
import re
import shlex
import tarfile
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parent / "Dockerfile"
ARCHITECTURES = {"x64": ("amd64", None), "arm64": ("arm64", None), "arm": ("arm", "v7")}
TYPE = "application/vnd.oci.image"


def stage():
    """What the last stage of the Dockerfile says about a container, in the words of OCI's image configuration."""
    config = {"Env": [], "Labels": {}, "Volumes": {}, "ExposedPorts": {}}
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text()).rpartition("\nFROM ")[2].splitlines()[1:]
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "ENV":
            config["Env"] += shlex.split(rest)
        elif word == "LABEL":
            config["Labels"] |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "VOLUME":
            config["Volumes"] |= {path: {} for path in json.loads(rest)}
        elif word == "EXPOSE":
            config["ExposedPorts"][f"{rest}/tcp"] = {}
        elif word in ("ENTRYPOINT", "CMD"):
            config[word.capitalize()] = json.loads(rest)
        elif word and word not in ("COPY", "#"):
            raise ValueError(f"{DOCKERFILE.name}: {word} is not known here")
    return config


def layer(program):
    """The files: the program, and the empty folders that it works in."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as files:
        for name, mode in (("workspace", 0o755), ("state", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            files.addfile(entry)
        entry = tarfile.TarInfo("mcp-esptool")
        entry.size, entry.mode = len(program), 0o755
        files.addfile(entry, io.BytesIO(program))
    return raw.getvalue()


def image(path, version, cpu, program):
    """Writes the layout; the same program gives the same bytes."""
    blobs = {}

    def blob(kind, content, **more):
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(content), **more}

    def text(value):
        return json.dumps(value, sort_keys=True).encode()

    files = layer(program)
    architecture, variant = ARCHITECTURES[cpu]
    platform = {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})
    about = stage()
    about["Labels"]["org.opencontainers.image.version"] = version
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(files).hexdigest()}"]}
    config = blob("config.v1+json", text(platform | {"config": about, "rootfs": rootfs}))
    packed = blob("layer.v1.tar+gzip", gzip.compress(files, 9, mtime=0))
    manifest = {"schemaVersion": 2, "mediaType": f"{TYPE}.manifest.v1+json", "config": config, "layers": [packed]}
    name = {"org.opencontainers.image.ref.name": version}
    index = {"schemaVersion": 2, "manifests": [blob("manifest.v1+json", text(manifest), platform=platform, annotations=name)]}
    content = {"oci-layout": text({"imageLayoutVersion": "1.0.0"}), "index.json": text(index)}
    content |= {f"blobs/sha256/{digest}": data for digest, data in sorted(blobs.items())}
    with tarfile.open(path, "w") as bundle:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            bundle.addfile(entry, io.BytesIO(data))
    return path


def unpack(path, folder):
    """What a container engine does with the layout: checks each digest, unpacks the layer, returns the configuration."""
    with tarfile.open(path) as bundle:
        read = lambda name: bundle.extractfile(name).read()

        def blob(about):
            kind, _, digest = about["digest"].partition(":")
            data = read(f"blobs/{kind}/{digest}")
            assert hashlib.sha256(data).hexdigest() == digest and len(data) == about["size"], about
            return data

        assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"
        (entry,) = json.loads(read("index.json"))["manifests"]
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))
        for about, plain in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            files = gzip.decompress(blob(about))
            assert f"sha256:{hashlib.sha256(files).hexdigest()}" == plain, about
            with tarfile.open(fileobj=io.BytesIO(files)) as layer_files:
                layer_files.extractall(folder, filter="tar")
    return config
