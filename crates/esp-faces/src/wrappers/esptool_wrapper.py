# Made by `mcp-esptool link`, for ESP-IDF: export ESPTOOL_WRAPPER=@FOLDER@/esptool_wrapper.py
# idf.py then runs `python THIS_FILE esptool --chip ...` to build, flash and erase.
import os
import subprocess
import sys

PROGRAM = @PROGRAM@
FACE, ARGUMENTS = sys.argv[1], sys.argv[2:]
COMMAND = [PROGRAM, "face", FACE, *ARGUMENTS]

if os.name == "posix":
    os.execv(PROGRAM, COMMAND)
sys.exit(subprocess.call(COMMAND))
