"""Answers a list of questions about images with esptool, all in one process.

argv: a folder with `questions.jsonl`; writes `answers.jsonl` beside it. A question is
{"op": "elf2image" | "merge-bin" | "image-info", "argv": [...], "output": "...", "file": "..."}.
"""

import contextlib
import hashlib
import io
import json
import pathlib
import sys

import esptool
from esptool import bin_image, cmds


def run(argv):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            esptool.main(argv)
            return True
        except SystemExit as stop:
            return not stop.code
        except BaseException:
            return False


def outputs(prefix):
    found = {}
    for path in sorted(prefix.parent.glob(prefix.name + "*")):
        data = path.read_bytes()
        found[path.name[len(prefix.name):]] = [len(data), hashlib.sha256(data).hexdigest()]
        path.unlink()
    return found


def plain(value):
    return value.hex() if isinstance(value, bytes) else value


def info(data):
    facts = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            chip = cmds._parse_image_info_header(data, None)
            image = bin_image.LoadFirmwareImage(chip, data)
        except BaseException as error:
            return {"api_error": repr(error)}
    facts["detected_chip"] = chip
    for key, name in (("version", "version"), ("entry", "entrypoint"), ("flash_mode", "flash_mode")):
        facts[key] = getattr(image, name)
    rom = image.ROM_LOADER
    bits = image.flash_size_freq
    first = lambda table, code: next((name for name, value in table.items() if value == code), None)
    facts["n_segments"] = len(image.segments)
    facts["flash_size"] = first(rom.FLASH_SIZES, bits & 0xF0)
    facts["flash_freq"] = first(rom.FLASH_FREQUENCY, bits & 0x0F)
    facts["segments"] = [
        {"addr": s.addr, "len": len(s.data), "file_offs": s.file_offs, "types": s.get_memory_type(image)}
        for s in image.segments
    ]
    facts["checksum"] = image.checksum
    facts["checksum_valid"] = image.checksum == image.calculate_checksum()
    if chip != "esp8266":
        for key in ("wp_pin", "chip_id", "min_rev", "min_rev_full", "max_rev_full", "append_digest"):
            facts[key] = getattr(image, key)
        if image.append_digest:
            facts["hash_valid"] = image.stored_digest == image.calc_digest
            facts["digest"] = image.calc_digest.hex()
    return facts


folder = pathlib.Path(sys.argv[1])
with open(folder / "questions.jsonl") as questions, open(folder / "answers.jsonl", "w") as answers:
    for line in questions:
        question = json.loads(line)
        if question["op"] == "image-info":
            answer = info((folder / question["file"]).read_bytes())
        else:
            prefix = folder / question["output"]
            argv = [arg.replace("@/", str(folder) + "/") for arg in question["argv"]]
            ok = run(argv)
            files = outputs(prefix)
            answer = {"out": files if ok else None}
        answers.write(json.dumps(answer, default=plain) + "\n")
