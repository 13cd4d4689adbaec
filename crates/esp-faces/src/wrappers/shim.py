#!/usr/bin/env python3
# Made by `mcp-esptool link`: @FACE@ is served by mcp-esptool.
import os
import subprocess
import sys

PROGRAM = @PROGRAM@
NAME = os.path.basename(sys.argv[0])
os.environ["MCP_ESPTOOL_CALLED_AS"] = "python -m @FACE@" if NAME == "__main__.py" else NAME
COMMAND = [PROGRAM, "face", "@FACE@", *sys.argv[1:]]

if os.name == "posix":
    os.execv(PROGRAM, COMMAND)
sys.exit(subprocess.call(COMMAND))
