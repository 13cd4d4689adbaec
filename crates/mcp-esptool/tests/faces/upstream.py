"""esptool's own test suites, with `python -m esptool`, `espsecure` and `espefuse` led to our faces.

    upstream.py REPOSITORY PROGRAM FOLDER [SUITE...]

REPOSITORY is a copy of esptool's repository (it is written to). PROGRAM is mcp-esptool. Needs pytest and what esptool needs.
Prints each function that did not pass, and how many did: a function passes when it passed on a chip and failed on none.
The ESP8266's stub, which is not built in, is the repository's own (MIT or Apache-2.0).
"""

import os
import pathlib
import socket
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as tree

REPOSITORY, PROGRAM, FOLDER = (pathlib.Path(path).resolve() for path in sys.argv[1:4])
# Files of the repository that call our faces.
SUITES = {
    "image_info": [("test_image_info.py", [])],
    "merge_bin": [("test_merge_bin.py", [])],
    "imagegen": [("test_imagegen.py", [])],
    "espsecure": [("test_espsecure.py", [])],
    "espefuse": [
        ("test_espefuse.py", ["--chip", chip])
        for chip in ("esp32", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32h2", "esp32p4", "esp32s2", "esp32s3",
                     "esp32s31")
    ],
    "esptool": [("test_esptool.py", ["--chip", chip]) for chip in ("esp32c3", "esp32", "esp32s3", "esp8266")],
}
# The chip that has a flash beyond 16 MB, which esptool reaches on it.
LARGE = "esp32s3"
# The chip whose stub has to be brought, and which takes no second flash.
FIRST = "esp8266"
# Groups and beginnings of functions that call esptool's Python package or its server for RFC 2217, and so judge that.
PYTHON_ONLY = """
test_write_flash_production_plaintext_guard test_esp_rfc2217_server_py test_flash_overclocked test_flash_watchdogs test_show_security_info test_flash_header_rewrite
test_read_write_memory test_read_chip_description test_read_get_chip_features TestESPObjectOperations TestDeprecatedAliases
TestSlipReaderRead test_padding TestPublicAPI
""".split()

SHIM = """#!/bin/sh
# Python, but for the programs that our faces stand in for.
if [ "$1" = -m ]; then
  case "$2" in esptool|espefuse|espsecure)
    face=$2; shift 2; export MCP_ESPTOOL_CALLED_AS="python -m $face"; exec "{program}" face "$face" "$@";;
  esac
fi
exec "{python}" "$@"
"""
PLUGIN = "import os, sys\nsys.executable = os.environ['SHIM']\n"
# For the tests that put esptool's server for RFC 2217 in between: it passes DTR and RTS on one by one.
SETTINGS = "[esptool]\ncustom_reset_sequence = D0|R1|W0.1|D1|R0|W0.05|D0\n"


def prepared():
    FOLDER.mkdir(parents=True, exist_ok=True)
    shim = FOLDER / "python"
    shim.write_text(SHIM.format(program=PROGRAM, python=sys.executable))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    (FOLDER / "shim_plugin.py").write_text(PLUGIN)
    home = FOLDER / "home"
    (home / ".config/esptool").mkdir(parents=True, exist_ok=True)
    (home / ".config/esptool/esptool.cfg").write_text(SETTINGS)
    # The start files of the repository are those that `link` writes.
    subprocess.run([PROGRAM, "link", FOLDER / "links"], check=True, capture_output=True)
    for name in ("esptool.py", "espefuse.py", "espsecure.py"):
        (REPOSITORY / name).write_text((FOLDER / "links" / name).read_text())
    path = [str(REPOSITORY), str(FOLDER)]
    return dict(os.environ, HOME=str(home), SHIM=str(shim), PYTHONPATH=os.pathsep.join(path),
                PATH=f"{FOLDER / 'links'}{os.pathsep}{os.environ['PATH']}")


def simulator(chip):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    size = "32MB" if chip == LARGE else "4MB"
    options = ["--flash-size", size, "--external-flash", "4MB"]
    process = subprocess.Popen([PROGRAM, "sim", chip, "--rfc2217", place, *options], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    return process, f"rfc2217://{place}"


def run(file, options, environment):
    chip = options[1] if options else ""
    report = FOLDER / f"{file}{chip}.xml"
    process, environment = None, dict(environment)
    if file == "test_esptool.py":
        process, port = simulator(chip)
        options = [*options, "--port", port, "--baud", "115200"]
        environment["ESPTOOL_TEST_FLASH_SIZE"] = "32" if chip == LARGE else "4"
        if chip == FIRST:
            environment["MCP_ESPTOOL_STUB_DIR"] = str(REPOSITORY / "esptool/targets/stub_flasher/2")
        else:
            environment["ESPTOOL_TEST_SPI_CONN"] = "6,2,7,5,10"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "shim_plugin", f"--junitxml={report}", file, *options]
    with open(report.with_suffix(".log"), "w") as log:
        subprocess.run(command, cwd=REPOSITORY / "test", env=environment, stdout=log, stderr=log, check=False)
    if process:
        process.kill()
        process.wait()
    return [(case.get("classname").split(".")[-1], case.get("name").split("[")[0], chip,
             "failed" if case.find("failure") is not None or case.find("error") is not None
             else "skipped" if case.find("skipped") is not None else "passed")
            for case in tree.parse(report).iter("testcase")]


def main():
    environment = prepared()
    passed, all_judging = 0, 0
    for name in sys.argv[4:] or SUITES:
        verdicts = {}
        for file, options in SUITES[name]:
            for group, function, chip, verdict in run(file, options, environment):
                if group not in PYTHON_ONLY and not function.startswith(tuple(PYTHON_ONLY)):
                    verdicts.setdefault((group, function), {}).setdefault(verdict, set()).add(chip)
        good = [key for key, found in verdicts.items() if "passed" in found and "failed" not in found]
        for (group, function), found in sorted(verdicts.items()):
            if "failed" in found:
                print(f"  failed: {name} {group}::{function} {' '.join(sorted(found['failed']))}")
            elif "passed" not in found:
                print(f"  never run: {name} {group}::{function}")
        print(f"{name}: {len(good)} of {len(verdicts)}")
        passed, all_judging = passed + len(good), all_judging + len(verdicts)
    print(f"functions that pass: {passed} of {all_judging}")


main()
