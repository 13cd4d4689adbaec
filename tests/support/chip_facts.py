"""Facts that esptool and espefuse hold about every chip, as JSON, for comparison with our data.

Standard input: one JSON object a line, {"chip": "esp32c6", "words": {"<address>": <word>, ...}}. Standard output: one
JSON object with `chips` (addresses and tables of esptool's targets), `efuses` (blocks, fields and key purposes of
espefuse) and `identities` (what esptool makes of the words of each line, in order).
"""

import importlib
import inspect
import json
import sys

from esptool.util import FatalError

CHIPS = [
    "esp8266", "esp32", "esp32s2", "esp32s3", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32c61", "esp32e22",
    "esp32h2", "esp32h21", "esp32h4", "esp32p4", "esp32s31",
]


def target(chip):
    return getattr(importlib.import_module(f"esptool.targets.{chip}"), f"{chip.upper()}ROM")


def attributes(chip):
    """The plain constants of a target class and the page sizes of its image class."""
    cls = target(chip)
    plain = {name: getattr(cls, name) for name in dir(cls) if name.isupper()}
    keep = {name: value for name, value in plain.items() if isinstance(value, (int, str, dict, list, type(None)))}
    images = vars(importlib.import_module("esptool.bin_image")).values()
    image = [i for i in images if inspect.isclass(i) and vars(i).get("ROM_LOADER") is cls]
    keep["PAGE_SIZES"] = sorted(image[0].MMU_PAGE_SIZE_CONF or [image[0].IROM_ALIGN]) if image else []
    return json.loads(json.dumps(keep, default=str))


def efuses(chip, revision):
    """Blocks, fields, key purposes and register window; `revision` names a table of other silicon."""
    defs = importlib.import_module(f"espefuse.efuse.{chip}.mem_definition")
    table = defs.EfuseDefineFields(None, revision=revision) if revision else defs.EfuseDefineFields(None)
    groups = ["EFUSES", "KEYBLOCKS", "KEYBLOCKS_256", "CALIBRATION_EFUSES", "CUSTOM_MAC", "ADC_CALIBRATION", "CALC"]
    fields = []
    for group in groups:
        for field in getattr(table, group, []):
            fields.append({
                "name": field.name, "block": field.block, "len": field.bit_len, "aliases": field.alt_names,
                "start": None if group == "CALC" else field.word * 32 + field.pos, "write": field.write_disable_bit,
                "read": field.read_disable_bit, "type": field.type, "class": field.class_type,
            })
    module = importlib.import_module(f"espefuse.efuse.{chip}.fields")
    classes = [c for c in vars(module).values() if inspect.isclass(c) and getattr(c, "KEY_PURPOSES", None)]
    blocks = [vars(defs.EfuseDefineBlocks.get(block)) for block in defs.EfuseDefineBlocks.BLOCKS]
    memory = [defs.EfuseDefineRegisters.DR_REG_EFUSE_BASE, defs.EfuseDefineRegisters.EFUSE_MEM_SIZE]
    purposes = classes[0].KEY_PURPOSES if classes else []
    return {"fields": fields, "blocks": blocks, "purposes": purposes, "memory": memory}


def identity(chip, words):
    """What esptool says of a chip whose registers hold these words."""
    cls = target(chip)
    esp = cls.__new__(cls)
    esp.read_reg = lambda address, **_: words.get(str(address), 0)
    answer = {"description": esp.get_chip_description(), "features": esp.get_chip_features()}
    try:
        answer["mac"] = list(esp.read_mac("BASE_MAC"))
    except FatalError:
        answer["mac"] = None
    eui64 = esp.read_mac("EUI64")
    answer["eui64"] = list(eui64) if eui64 else None
    return answer


def main():
    tables = {chip: (chip, None) for chip in CHIPS if chip != "esp8266"}
    tables["esp32p4 v3.0"] = ("esp32p4", "esp32p4_v3.0")
    tables["esp32h2 v0.0"] = ("esp32h2", "esp32h2_v0.0_v1.1")
    cases = [json.loads(line) for line in sys.stdin]
    json.dump({
        "chips": {chip: attributes(chip) for chip in CHIPS},
        "efuses": {name: efuses(*source) for name, source in tables.items()},
        "identities": [identity(case["chip"], case["words"]) for case in cases],
    }, sys.stdout)


if __name__ == "__main__":
    main()
