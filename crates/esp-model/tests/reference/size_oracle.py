"""What esp-idf-size makes of the maps named on the command line, one JSON line each."""

import contextlib
import io
import json
import sys

from esp_idf_size import memorymap

for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            tree = memorymap.get(path)
            memorymap.remove_unused(tree)
            memorymap.ignore_linker_sizes(tree)
        except BaseException as error:
            tree = {"error": repr(error)}
    print(json.dumps(tree))
