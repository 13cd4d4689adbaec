#!/usr/bin/env python3
"""Draws what a command printed, as a terminal shows it: terminal.py 'COMMAND' < OUTPUT > PICTURE.svg"""
import sys
import textwrap
from xml.sax.saxutils import escape

WIDTH, LINE, LETTER = 112, 19, 7.8


def wrapped(line):
    """A line as a terminal of this width breaks it, between words."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent + "    ") or [""]


printed = [part for line in sys.stdin.read().rstrip().splitlines() for part in wrapped(line.expandtabs())]
lines = [f"$ {sys.argv[1]}", *(line.rstrip() for line in printed)]
width, height = WIDTH * LETTER + 32, len(lines) * LINE + 28
print(
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
    'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="13">\n'
    f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#12181f"/>'
)
for number, line in enumerate(lines):
    color = "#7ee787" if number == 0 else "#d6dde6"
    place = f'x="16" y="{28 + number * LINE}" fill="{color}" xml:space="preserve"'
    # A fixed length keeps columns below each other in any font.
    print(f'<text {place} textLength="{len(line) * LETTER:.1f}" lengthAdjust="spacingAndGlyphs">{escape(line)}</text>')
print("</svg>")
