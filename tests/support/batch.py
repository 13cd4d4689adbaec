"""Runs a Python program's `main(argv)` many times without starting Python each time.

usage: batch.py MODULE < CASES
Each line of CASES is one argument list, separated by 0x1f; "@copy FROM TO" copies a file in between. Each case runs in a forked child, so that it starts from
fresh state. For each the answer is one line "EXIT_CODE LENGTH" and LENGTH bytes of output.
"""

import importlib
import os
import pathlib
import pickle
import shutil
import sys
import tempfile
import traceback

module = importlib.import_module(sys.argv[1])
yaml = sys.modules.get("yaml")
if yaml is not None and hasattr(yaml, "CSafeLoader"):
    # The same answer from the library's faster parser; the module's own files are parsed once, before forking.
    parsed = {}

    def fast_load(stream):
        text = stream if isinstance(stream, str) else stream.read()
        if text not in parsed:
            parsed[text] = pickle.dumps(yaml.load(text, Loader=yaml.CSafeLoader))
        return pickle.loads(parsed[text])

    yaml.safe_load = fast_load
    for file in pathlib.Path(module.__file__).parent.glob("efuse_defs/*.yaml"):
        fast_load(file.read_text())
answers = sys.stdout.buffer
for line in sys.stdin:
    argv = line.rstrip("\n").split("\x1f")
    if argv[0] == "@copy":
        shutil.copy(argv[1], argv[2])
        answers.write(b"0 0\n")
        continue
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            code = 0
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            try:
                module.main(argv)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except BaseException:
                traceback.print_exc(limit=0)
                code = 2
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        text = output.read()
    answers.write(b"%d %d\n" % (os.waitstatus_to_exitcode(status), len(text)))
    answers.write(text)
answers.flush()
