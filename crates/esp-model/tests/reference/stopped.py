"""Runs in gdb-multiarch. Environment: ELF; CORE (a core file) or REMOTE (host:port) with STOPS and SEED; OUT.

Writes JSON: [{"registers": {name: value}, "memory": [[address, hex]], "frames": [{"pc", "name", "file", "line", "inline",
"variables": [[name, is_parameter, value]]}]}], one for each thread or stop. A value is a number, {"enum": name},
{"other": kind} for what has several parts, or null when it is optimized out or not saved.
"""
import json
import os
import random

import gdb

NUMBERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_CHAR)
REGISTERS = ("pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6").split()


def number(symbol, frame):
    try:
        value = symbol.value(frame)
        kind = value.type.strip_typedefs()
        if value.is_optimized_out:
            return None
        if kind.code in NUMBERS:
            return int(value)
        if kind.code == gdb.TYPE_CODE_ENUM:
            return {"enum": str(value)}
        return {"other": kind.code}
    except gdb.error:
        return None


def variables(frame):
    found, block = [], None
    try:
        block = frame.block()
    except RuntimeError:
        return found
    while block is not None:
        for symbol in block:
            if symbol.is_variable or symbol.is_argument:
                found.append([symbol.name, symbol.is_argument, number(symbol, frame)])
        if block.function is not None:
            break
        block = block.superblock
    return found


def frames():
    found, frame = [], gdb.newest_frame()
    while frame is not None and len(found) < 60:
        place = frame.find_sal()
        found.append({
            "pc": frame.pc(), "name": frame.name(), "line": place.line,
            "file": place.symtab.filename if place.symtab else None,
            "inline": frame.type() == gdb.INLINE_FRAME, "variables": variables(frame),
        })
        try:
            frame = frame.older()
        except gdb.error:
            break
    return found


def registers():
    frame = gdb.newest_frame()
    while frame.type() == gdb.INLINE_FRAME:
        frame = frame.older()
    return {name: int(frame.read_register(name)) & 0xFFFFFFFF for name in REGISTERS}


def memory(address, length):
    return [address, gdb.selected_inferior().read_memory(address, length).tobytes().hex()]


gdb.execute("set pagination off")
gdb.execute("set backtrace past-main on")
gdb.execute("file " + os.environ["ELF"], to_string=True)
out = []
if "CORE" in os.environ:
    gdb.execute("core-file " + os.environ["CORE"], to_string=True)
    for thread in sorted(gdb.inferiors()[0].threads(), key=lambda thread: thread.num):
        thread.switch()
        out.append({"registers": registers(), "memory": [], "frames": frames()})
else:
    gdb.execute("target remote " + os.environ["REMOTE"], to_string=True)
    top = int(gdb.newest_frame().read_register("sp")) & 0xFFFFFFFF
    rand = random.Random(int(os.environ["SEED"]))
    gdb.execute("break main", to_string=True)
    gdb.execute("continue", to_string=True)
    gdb.execute("delete", to_string=True)
    data = int(gdb.parse_and_eval("(unsigned long) &nodes")) & ~0xFFF
    for _ in range(int(os.environ["STOPS"])):
        gdb.execute("stepi %d" % rand.choice([1, 2, 3, 7, 31, 113]), to_string=True)
        at = registers()
        saved = [memory(at["sp"], top - at["sp"]), memory(data, 0x1000)]
        out.append({"registers": at, "memory": saved, "frames": frames()})
    gdb.execute("kill", to_string=True)
json.dump(out, open(os.environ["OUT"], "w"))
