"""Makes file system images with other people's tools: `fs_oracle.py OUT_DIR SEED [IDF_PATH]`.

Prints JSON: {"cases": [{"image", "kind", "files": {path: sha256}, "folders": [path]}], "missing": [reason]}.
"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

out, seed = Path(sys.argv[1]), int(sys.argv[2])
idf = Path(sys.argv[3]) if len(sys.argv) > 3 else None
rand = random.Random(seed)
cases, missing = [], []


def tree(folders, names, sizes):
    """Random files: {path: bytes} and the folders that hold them."""
    dirs = [""]
    for i in range(folders):
        dirs.append(f"{rand.choice(dirs)}/{names(i)}".lstrip("/"))
    files = {}
    for i in range(rand.randint(1, 12)):
        path = f"{rand.choice(dirs)}/{names(100 + i)}".lstrip("/")
        files[path] = rand.randbytes(rand.choice(sizes))
    return dirs[1:], files


def case(image, kind, dirs, files):
    digest = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    cases.append({"image": image.name, "kind": kind, "files": digest, "folders": dirs})


def folder(name, dirs, files):
    root = out / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path in dirs:
        (root / path).mkdir(parents=True)
    for path, data in files.items():
        (root / path).write_bytes(data)
    return root


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")


SIZES = [0, 1, 5, 60, 64, 251, 500, 4095, 4096, 4097, 9000, 33000]


def littlefs():
    try:
        from littlefs import LittleFS
    except ImportError as error:
        missing.append(f"littlefs-python: {error}")
        return
    for i in range(12):
        block = rand.choice([4096, 4096, 4096, 512, 1024])
        fs = LittleFS(block_size=block, block_count=rand.choice([64, 128, 300]) * 4096 // block)
        dirs, files = tree(4, lambda i: rand.choice(["a", "file-name", "Ünïcode"]) + str(i), [s for s in SIZES])
        for path in dirs:
            fs.makedirs("/" + path, exist_ok=True)
        for path, data in files.items():
            with fs.open("/" + path, "wb") as f:
                f.write(data)
        # A history: removed, rewritten, appended and renamed files.
        for path in rand.sample(sorted(files), len(files) // 2):
            act = rand.randint(0, 3)
            if act == 0:
                fs.remove("/" + path)
                del files[path]
            elif act == 1:
                files[path] = rand.randbytes(rand.choice(SIZES))
                with fs.open("/" + path, "wb") as f:
                    f.write(files[path])
            elif act == 2:
                more = rand.randbytes(rand.choice(SIZES))
                with fs.open("/" + path, "ab") as f:
                    f.write(more)
                files[path] += more
            else:
                fs.rename("/" + path, "/moved-" + str(i) + Path(path).name)
                files["moved-" + str(i) + Path(path).name] = files.pop(path)
        image = out / f"littlefs{i}.bin"
        image.write_bytes(bytes(fs.context.buffer))
        case(image, "littlefs", sorted(set(dirs)), files)


def spiffs():
    script = idf and idf / "components/spiffs/spiffsgen.py"
    if not script or not script.is_file():
        missing.append("spiffsgen.py of ESP-IDF (set IDF_PATH)")
        return
    options = [[], ["--page-size", "512"], ["--block-size", "8192"], ["--no-magic-len"], ["--aligned-obj-ix-tables"]]
    for i, option in enumerate(options):
        dirs, files = tree(2, lambda i: f"f{i}", [s for s in SIZES if s])
        root, image = folder(f"spiffs{i}", dirs, files), out / f"spiffs{i}.bin"
        run(sys.executable, script, *option, "0x60000", root, image)
        case(image, "spiffs", [], files)


def fat():
    for i in range(8):
        script = ["fatfsgen.py", "wl_fatfsgen.py"][i % 2]
        path = idf and idf / "components/fatfs" / script
        if not path or not path.is_file():
            missing.append(f"{script} of ESP-IDF (set IDF_PATH)")
            return
        # The generator writes long names in lower case.
        long = i >= 4
        name = (lambda i: f"long name of {i}.text") if long else (lambda i: f"F{i}.TXT")
        dirs, files = tree(3, name, SIZES)
        root, image = folder(f"fat{i}", dirs, files), out / f"fat{i}.bin"
        option = ["--long_name_support"] if long else []
        run(sys.executable, path, *option, "--partition_size", rand.choice([1 << 20, 2 << 20]),
            "--sector_size", rand.choice([512, 4096]) if i % 2 == 0 else 4096, "--output_file", image, root)
        case(image, "fat", sorted(set(dirs)), files)


def dos():
    if not shutil.which("mkfs.fat") or not shutil.which("mcopy"):
        missing.append("mkfs.fat and mcopy (dosfstools, mtools)")
        return
    for i, (width, size, sector) in enumerate([(12, 1024, 512), (16, 8192, 512), (32, 40000, 512), (12, 4096, 4096)]):
        image = out / f"dos{i}.bin"
        image.unlink(missing_ok=True)
        run("mkfs.fat", "-F", width, "-S", sector, "-s", 1, "-n", "LABEL", "-C", image, size)
        dirs, files = tree(3, lambda i: rand.choice([f"A{i}.B", f"Mixed Case {i}.html", f"lower{i}.txt"]), SIZES)
        root = folder(f"dos{i}", dirs, files)
        for path in sorted(dirs):
            run("mmd", "-i", image, "::" + path)
        for path in files:
            run("mcopy", "-i", image, root / path, "::" + path)
        for path in rand.sample(sorted(files), len(files) // 3):
            run("mdel", "-i", image, "::" + path)
            del files[path]
        case(image, "fat", sorted(set(dirs)), files)


def crowd():
    """Deep folders, the longest names, many small files beside a large one, most of them written and removed again."""
    files = {}
    deep = "/".join(f"level{i}" for i in range(9))
    dirs = ["/".join(deep.split("/")[: i + 1]) for i in range(9)]
    for i in range(150):
        files[f"{deep}/entry number {i}.txt"] = rand.randbytes(rand.choice([0, 3, 300]))
    files[dirs[3] + "/" + "n" * 200 + ".long"] = rand.randbytes(5000)
    files["large.bin"] = rand.randbytes(700_001)
    gone = [path for i, path in enumerate(files) if i % 3 == 1 and "large" not in path]
    return dirs, files, gone


def crowded_littlefs():
    try:
        from littlefs import LittleFS
    except ImportError:
        return
    fs = LittleFS(block_size=4096, block_count=512)
    dirs, files, gone = crowd()
    fs.makedirs("/" + dirs[-1])
    for path, data in files.items():
        with fs.open("/" + path, "wb") as f:
            f.write(data)
    for path in gone:
        fs.remove("/" + path)
        del files[path]
    image = out / "littlefs-crowd.bin"
    image.write_bytes(bytes(fs.context.buffer))
    case(image, "littlefs", sorted(dirs), files)


def crowded_dos():
    if not shutil.which("mkfs.fat") or not shutil.which("mcopy"):
        return
    for width, size, cluster in [(12, 8192, 8), (16, 16384, 1), (32, 70000, 2)]:
        image = out / f"dos-crowd{width}.bin"
        image.unlink(missing_ok=True)
        run("mkfs.fat", "-F", width, "-s", cluster, "-C", image, size)
        dirs, files, gone = crowd()
        root = folder(f"dos-crowd{width}", dirs, files)
        run("mcopy", "-s", "-i", image, root / "level0", "::")
        run("mcopy", "-i", image, root / "large.bin", "::")
        run("mdel", "-i", image, *["::" + path for path in gone])
        for path in gone:
            del files[path]
        case(image, "fat", sorted(dirs), files)


out.mkdir(parents=True, exist_ok=True)
littlefs()
crowded_littlefs()
crowded_dos()
spiffs()
fat()
dos()
print(json.dumps({"cases": cases, "missing": missing}))
