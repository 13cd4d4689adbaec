# Made by `mcp-esptool link`, for ESP-IDF: export ESPTOOL_WRAPPER=FOLDER/esptool_wrapper.py
# idf.py then runs `python THIS_FILE esptool --chip ...` to build, flash and erase.
import os
import subprocess
import sys

PROGRAM_PATH = PROGRAM
FACE, ARGUMENTS = sys.argv[1], sys.argv[2:]
COMMAND = [PROGRAM_PATH, "face", FACE, *ARGUMENTS]

if os.name == "posix":
    os.execv(PROGRAM_PATH, COMMAND)
sys.exit(subprocess.call(COMMAND))
