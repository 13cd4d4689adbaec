#!/usr/bin/env python3
# Made by `mcp-esptool link`: FACE is served by mcp-esptool.
import os
import subprocess
import sys

PROGRAM_PATH = PROGRAM
COMMAND = [PROGRAM_PATH, "face", "FACE", *sys.argv[1:]]

if os.name == "posix":
    os.execv(PROGRAM_PATH, COMMAND)
sys.exit(subprocess.call(COMMAND))
