"""Draws a terminal's screen: tmux capture-pane -e -p | python3 terminal.py > screen.svg"""

import re
import sys
from html import escape

WIDTH, HEIGHT, SIZE = 8.43, 18, 14
# The sixteen colours on a dark ground.
PLAIN = "#1e1e1e #f14c4c #23d18b #e5c07b #3b8eea #d670d6 #29b8db #d4d4d4".split()
BRIGHT = "#808080 #f14c4c #23d18b #f5f543 #3b8eea #d670d6 #29b8db #ffffff".split()
INK, GROUND = "#d4d4d4", "#1e1e1e"


def cube(number):
    """A colour of the 256."""
    if number < 16:
        return (PLAIN + BRIGHT)[number]
    if number >= 232:
        return "#" + f"{8 + (number - 232) * 10:02x}" * 3
    parts = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return "#" + "".join(f"{55 + part * 40 if part else 0:02x}" for part in parts)


def changed(style, codes):
    """The style after one sequence."""
    codes = [int(code or 0) for code in re.split("[;:]", codes)]
    while codes:
        code = codes.pop(0)
        if code in (38, 48) and codes:
            kind, rest = codes.pop(0), codes
            colour = cube(rest.pop(0)) if kind == 5 else "#" + "".join(f"{rest.pop(0):02x}" for _ in range(3))
            style = {**style, "ink" if code == 38 else "ground": colour}
        elif code == 0:
            style = {}
        elif code in (1, 2, 7):
            style = {**style, {1: "bold", 2: "faint", 7: "turned"}[code]: True}
        elif code in (22, 27):
            style = {key: value for key, value in style.items() if key not in ({22: ("bold", "faint"), 27: ("turned",)}[code])}
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = {**style, "ink": (PLAIN if code < 90 else BRIGHT)[code % 10]}
        elif 40 <= code <= 47:
            style = {**style, "ground": PLAIN[code % 10]}
        elif code in (39, 49):
            style = {key: value for key, value in style.items() if key != ("ink" if code == 39 else "ground")}
    return style


def draw(lines):
    columns = max(len(re.sub(r"\x1b\[[\d;:]*m", "", line)) for line in lines)
    wide, high = columns * WIDTH + 24, len(lines) * HEIGHT + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high}" font-size="{SIZE}" '
           'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">',
           f'<rect width="100%" height="100%" rx="6" fill="{GROUND}"/>']
    style = {}
    for row, line in enumerate(lines):
        column, y = 0, row * HEIGHT + 10
        for piece in re.split(r"(\x1b\[[\d;:]*m)", line):
            if piece.startswith("\x1b"):
                style = changed(style, piece[2:-1])
                continue
            if piece.strip() or style.get("ground") or style.get("turned"):
                ink, ground = style.get("ink", INK), style.get("ground")
                if style.get("turned"):
                    ink, ground = ground or GROUND, ink
                x, length = 12 + column * WIDTH, len(piece) * WIDTH
                if ground:
                    out.append(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{HEIGHT}" fill="{ground}"/>')
                weight = ' font-weight="bold"' if style.get("bold") else ""
                faint = ' opacity="0.6"' if style.get("faint") else ""
                # Blanks are kept on the element itself only.
                place = f'x="{x:.1f}" y="{y + 14}" textLength="{length:.1f}" xml:space="preserve"'
                out.append(f'<text {place} fill="{ink}"{weight}{faint}>{escape(piece)}</text>')
            column += len(piece)
    return "\n".join([*out, "</svg>"])


print(draw(sys.stdin.read().rstrip("\n").split("\n")))
