"""Runs esptool commands in one process: a JSON list of arguments per line in, a JSON object per line out."""
import contextlib
import io
import json
import sys

import esptool

for line in sys.stdin:
    said = io.StringIO()
    ok = True
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            esptool.main(json.loads(line))
    except SystemExit as stop:
        ok = stop.code in (0, None)
    except BaseException as error:
        ok = False
        said.write(f"{type(error).__name__}: {error}\n")
    print(json.dumps({"ok": ok, "said": said.getvalue()}), flush=True)
