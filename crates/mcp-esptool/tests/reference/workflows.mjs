// The five usual workflows on virtual devices with the official TypeScript SDK (its second generation, which speaks both eras):
// `node workflows.mjs SERVER DIR MODE ELICIT STEPS`. The files of the steps are in DIR already.
import { readFileSync } from "node:fs";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [server, folder, mode, elicit, steps] = process.argv.slice(2);
const asked = [];
const macs = new Set();
const capabilities = elicit === "yes" ? { elicitation: { form: {} } } : {};
const client = new Client({ name: "workflows", version: "1" }, { capabilities, versionNegotiation: { mode } });
if (elicit === "yes") {
  client.setRequestHandler("elicitation/create", async (request) => {
    asked.push(request.params.message);
    // The question hides the end: the user reads it off the device, here off an earlier result.
    const shown = request.params.message.match(/(?:[0-9a-f]{2}:){4}/)[0];
    const mac = [...macs].find((mac) => mac.startsWith(shown));
    return { action: "accept", content: { mac_end: mac.replaceAll(":", "").slice(-4) } };
  });
}
const args = ["serve", "--root", folder, "--set", `state_dir=${folder}/state`];
await client.connect(new StdioClientTransport({ command: server, args, cwd: folder }));
await client.listTools();
const results = [];
const call = async (name, given) => {
  const result = await client.callTool({ name, arguments: given });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  if (result.structuredContent.mac) macs.add(result.structuredContent.mac);
  return result.structuredContent;
};
for (const workflow of JSON.parse(readFileSync(steps, "utf8"))) {
  for (const [name, given] of workflow.steps) {
    let done = await call(name, given);
    if (done.confirm_token) done = await call(name, { ...given, confirm_token: done.confirm_token });
    results.push([name, done]);
  }
}
console.log(JSON.stringify({ results, asked: asked.length, version: client.getNegotiatedProtocolVersion?.() }));
await client.close();
