"""Uses the place as a lab would: contrib/labgrid/try.py CONFIGURATION PROGRAM (run by a test with a virtual board)."""
import subprocess
import sys

from labgrid import Environment

configuration, program = sys.argv[1:]
target = Environment(configuration).get_target("main")
board = target.get_resource("NetworkSerialPort")
console = target.get_driver("ConsoleProtocol")
# EN low and high again, as the reset button does.
console.serial.dtr, console.serial.rts = False, True
console.serial.rts = False
_, _, seen, _ = console.expect(r"rst:0x1 \(POWERON\)", timeout=20)
print("on labgrid's console:", seen.group(0).decode())

# One program at a time has the line: labgrid's console rests while ours works.
target.deactivate(console)
port = f"port={board.protocol}://{board.host}:{board.port}"
said = subprocess.run([program, "call", "esp_detect_chip", port], check=True, capture_output=True, text=True).stdout
print(said.splitlines()[0])
target.activate(console)
print("labgrid has the line again")
