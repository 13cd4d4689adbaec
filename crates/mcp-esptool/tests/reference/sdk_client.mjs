// Lists and calls the tools over stdio with the official TypeScript SDK: `node sdk_client.mjs SERVER DIR`.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const [server, folder] = process.argv.slice(2);
const client = new Client({ name: "sdk-test", version: "1" });
await client.connect(new StdioClientTransport({ command: server, args: ["serve", "--root", folder], cwd: folder }));
const listed = await client.listTools();
const progress = [];
const port = "sim://esp32c3-sdk";
// The client validates results against the published output schemas.
const detected = await client.callTool({ name: "esp_detect_chip", arguments: { port } });
const call = (path) => ({ name: "esp_flash_firmware", arguments: { port, files: [{ path, address: "0x10000" }] } });
const written = await client.callTool(call("firmware.bin"), undefined, { onprogress: (step) => progress.push(step.progress) });
const refused = await client.callTool(call("none"));
console.log(JSON.stringify({
  tools: listed.tools.map((tool) => tool.name),
  chip: detected.structuredContent,
  written: written.structuredContent,
  progress,
  refused: refused.isError ?? false,
  why: refused.content[0].text,
}));
await client.close();
