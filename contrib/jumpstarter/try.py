"""Tries the driver on a board: contrib/jumpstarter/try.py PORT PROGRAM (run by a test with a virtual one)."""
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from jumpstarter.common.utils import serve
from mcp_esptool_driver import McpEsptool

port, program = sys.argv[1:]
with serve(McpEsptool(port=port, program=program)) as board, TemporaryDirectory() as folder:
    print(board.tool("esp_detect_chip")["chip"])
    image, back = Path(folder) / "image.bin", Path(folder) / "back.bin"
    image.write_bytes(bytes(range(256)) * 64)
    board.flash(image, target="0x10000")
    board.dump(back, target="0x10000:0x4000")
    assert back.read_bytes() == image.read_bytes(), "what was read is not what was written"
    try:
        board.tool("esp_partition_read")
    except Exception as error:
        assert "no_partition_table" in str(error) and "Next:" in str(error), error
    else:
        raise AssertionError("a board without a table has none")
print("written and read back")
