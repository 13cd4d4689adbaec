// A host of MCP Apps as the SDK makes it: it shows one page, and leaves calls of tools to whoever looks into `asked`.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

const pending = new Map();
Object.assign(window, { asked: [], told: [], sizes: [] });

window.show = async (html, theme, args, result) => {
  document.body.replaceChildren();
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts allow-same-origin"; // forms may not be sent
  frame.style = "width:100%;height:780px;border:0";
  frame.title = "app";
  document.body.append(frame);
  const can = { serverTools: {}, serverResources: {}, updateModelContext: { text: {} } };
  const bridge = new AppBridge(null, { name: "test", version: "1" }, can, { hostContext: { theme } });
  const pass = method => params => new Promise(done => {
    const id = pending.size + 1;
    pending.set(id, done);
    asked.push({ id, method, params });
  });
  bridge.oncalltool = pass("tools/call");
  bridge.onreadresource = pass("resources/read");
  bridge.onupdatemodelcontext = async params => { told.push(params); return {}; };
  bridge.onsizechange = params => sizes.push(params);
  const ready = new Promise(done => { bridge.oninitialized = done; });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.srcdoc = html;
  await ready;
  await bridge.sendToolInput({ arguments: args });
  await bridge.sendToolResult(result);
  window.bridge = bridge;
};

window.answered = (id, result) => pending.get(id)(result);
