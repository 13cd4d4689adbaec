"""A jumpstarter driver that flashes and inspects boards with mcp-esptool.

Beside `jumpstarter-driver-esp32` it writes only what differs, resumes, knows every chip, and passes any tool on by name. Needs
jumpstarter-driver-opendal and the program `mcp-esptool` (in PATH, or named by `program`). An exporter's configuration:

    export:
      board:
        type: mcp_esptool_driver.McpEsptool
        config: { port: "mac:24:0a:c4:00:11:22" }
"""
import asyncio
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass

import click
from anyio.streams.file import FileReadStream, FileWriteStream
from jumpstarter.driver import Driver, export
from jumpstarter_driver_opendal.client import FlasherClient
from jumpstarter_driver_opendal.driver import FlasherInterface


class ToolFailed(RuntimeError):
    """What failed, and the next step."""


@contextmanager
def work_folder():
    with tempfile.TemporaryDirectory(prefix="mcp-esptool-") as folder:
        yield folder


@dataclass(kw_only=True)
class McpEsptool(FlasherInterface, Driver):
    """One board. `port` is anything that mcp-esptool takes as a port."""

    port: str
    program: str = "mcp-esptool"

    @classmethod
    def client(cls) -> str:
        return "mcp_esptool_driver.McpEsptoolClient"

    async def _tool(self, name, folder, **arguments):
        """Calls a tool; `folder` is the only one whose files it may use."""
        line = [self.program, "call", name, "--json", "--set", f"project_roots={folder}"]
        line += [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in arguments.items()]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*line, stdout=pipe, stderr=pipe, cwd=folder)
        output, complaints = await process.communicate()
        try:
            result = json.loads(output)
        except ValueError:
            raise ToolFailed(complaints.decode(errors="replace").strip() or f"{name} said nothing") from None
        if error := result.get("error"):
            raise ToolFailed(f"{error['code']}: {error['message']} Next: {error.get('next_step', '')}")
        return result

    @export
    async def flash(self, source, target: str | None = None):
        """Writes an image to an address or a partition by its name (default 0x0)."""
        with work_folder() as folder:
            path = os.path.join(folder, "image.bin")
            async with await FileWriteStream.from_path(path) as stream:
                async with self.resource(source) as res:
                    async for chunk in res:
                        await stream.send(chunk)
            files = [{"address": target or "0x0", "path": path}]
            return await self._tool("esp_flash_firmware", folder, port=self.port, files=files)

    @export
    async def dump(self, target, partition: str | None = None):
        """Reads a partition by its name, ADDRESS:SIZE, or the whole flash."""
        address, _, size = (partition or "").partition(":")
        what = {"address": address, "size": size} if size else {"region": partition or "all"}
        with work_folder() as folder:
            path = os.path.join(folder, "dump.bin")
            await self._tool("esp_flash_read", folder, port=self.port, output_file=path, **what)
            async with await FileReadStream.from_path(path) as stream:
                async with self.resource(target) as res:
                    async for chunk in stream:
                        await res.send(chunk)

    @export
    async def tool(self, name: str, arguments: str = "{}") -> str:
        """Any tool by its name; arguments and result are JSON. The port is this board's."""
        with work_folder() as folder:
            result = await self._tool(name, folder, **(json.loads(arguments) | {"port": self.port}))
        return json.dumps(result)


@dataclass(kw_only=True)
class McpEsptoolClient(FlasherClient):
    """What a leased board can do."""

    def tool(self, name, **arguments):
        """A tool's result, such as `tool("esp_detect_chip")`."""
        return json.loads(self.call("tool", name, json.dumps(arguments)))

    def cli(self):
        base = super().cli()

        @base.command()
        @click.argument("name")
        @click.argument("arguments", default="{}")
        def tool(name, arguments):
            """Call a tool of mcp-esptool; arguments are JSON"""
            click.echo(json.dumps(self.tool(name, **json.loads(arguments)), indent=2))

        return base
