#!/usr/bin/env node
// Starts the program of the platform's package with the same arguments and standard streams.
"use strict";
const { spawn } = require("node:child_process");

const musl = process.platform === "linux" ? "-musl" : "";
const name = `@mcp-esptool/${process.platform}-${process.arch}${musl}`;
const file = process.platform === "win32" ? "mcp-esptool.exe" : "mcp-esptool";
let program;
try {
  program = require.resolve(`${name}/bin/${file}`);
} catch {
  console.error(
    `mcp-esptool: no program for ${process.platform} ${process.arch} (package ${name} is not installed).\n` +
      "Install without --omit=optional, or see https://github.com/mcp-esptool/mcp-esptool for other ways.",
  );
  process.exit(1);
}
const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`mcp-esptool: ${program}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));
