"""Lists and calls the tools over stdio with the official Python SDK: `sdk_client.py SERVER DIR MODE`."""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def main(server: str, folder: str, mode: str) -> None:
    parameters = StdioServerParameters(command=server, args=["serve", "--root", folder], cwd=folder)
    async with Client(parameters, mode=mode) as client:
        listed = await client.list_tools()
        seen = []

        async def progress(done, total, message):
            seen.append(done)

        detected = await client.call_tool("esp_detect_chip", {"port": "sim://esp32c3-sdk"})
        files = [{"path": "firmware.bin", "address": "0x10000"}]
        arguments = {"port": "sim://esp32c3-sdk", "files": files}
        written = await client.call_tool("esp_flash_firmware", arguments, progress_callback=progress)
        refused = await client.call_tool("esp_flash_firmware", {**arguments, "files": [{"path": "none", "address": 0}]})
        print(json.dumps({
            "tools": [tool.name for tool in listed.tools],
            "chip": detected.structured_content,
            "written": written.structured_content,
            "progress": seen,
            "refused": refused.is_error,
            "why": refused.content[0].text,
        }))


asyncio.run(main(*sys.argv[1:4]))
