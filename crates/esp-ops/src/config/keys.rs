//! All settings: names, environment variables, defaults.

/// One setting.
pub struct Key {
    /// Its name in the file and in `--set name=value`.
    pub name: &'static str,
    /// Environment variables that set it, first one first.
    pub env: &'static [&'static str],
    /// The value when nothing sets it; empty for none.
    pub default: &'static str,
    /// What it is.
    pub about: &'static str,
}

const fn key(name: &'static str, env: &'static [&'static str], default: &'static str, about: &'static str) -> Key {
    Key { name, env, default, about }
}

/// All settings.
pub static KEYS: &[Key] = &[
    key(
        "project_roots",
        &["MCP_ESP_PROJECT_DIR"],
        "",
        "folders that files may be read from and written to (default: the current one)",
    ),
    key("device_timeout_s", &["ESP_DEVICE_TIMEOUT"], "30", "longest wait for a busy or silent device, in seconds"),
    key(
        "session_idle_s",
        &["MCP_ESPTOOL_SESSION_IDLE"],
        "20",
        "how long a connection stays open for the next call, in seconds",
    ),
    key(
        "cli_session_idle_s",
        &["MCP_ESPTOOL_CLI_SESSION_IDLE"],
        "3",
        "how long a command line's connection waits for the next command before the app is started, in seconds; 0: not at \
         all. Set, it counts for network ports, too",
    ),
    key(
        "console_daemon",
        &["MCP_ESPTOOL_CONSOLE_DAEMON"],
        "true",
        "consoles of real ports live in a process of their own, so that they outlive the program that opened them",
    ),
    key("baud", &["ESP_DEFAULT_BAUD_RATE"], "460800", "baud rate for transfers"),
    key("remote_ports", &["MCP_ESPTOOL_PORTS"], "", "ports offered beside the serial ports here: URL, or NAME=URL"),
    key("read_only", &["MCP_ESPTOOL_READ_ONLY"], "false", "offer only tools that change neither devices nor files"),
    key("toolsets", &["MCP_ESPTOOL_TOOLSETS"], "", "sets or profiles of tools to offer (default: all)"),
    key("tools", &["MCP_ESPTOOL_TOOLS"], "", "further tools to offer, by name"),
    key("exclude_tools", &["MCP_ESPTOOL_EXCLUDE_TOOLS"], "", "tools not to offer, by name"),
    key("policy_file", &["MCP_ESPTOOL_POLICY"], "", "TOML file that says what may be done to which device"),
    key("narrow", &["MCP_ESPTOOL_NARROW"], "", "rules in TOML that narrow the policy further"),
    key(
        "elf_dirs",
        &["MCP_ESPTOOL_ELF_DIRS"],
        "",
        "folders with the ELF files of released apps, found by their SHA-256 (beside the project roots)",
    ),
    key(
        "findings_dir",
        &["MCP_ESPTOOL_FINDINGS_DIR"],
        "",
        "folder with TOML files that add known troubles to what consoles are searched for (docs/findings.md)",
    ),
    key("stub", &["MCP_ESPTOOL_STUB"], "auto", "`none` works with the chip's ROM alone, without the flasher stub"),
    key(
        "stub_dir",
        &["MCP_ESPTOOL_STUB_DIR"],
        "",
        "folder with flasher stubs (JSON) to use instead of the built-in ones",
    ),
    key("pkcs11_module", &["PKCS11_MODULE_PATH"], "", "PKCS#11 library of the HSM that holds signing keys"),
    key("pkcs11_token", &[], "", "label of the HSM's token (default: the only one)"),
    key("pkcs11_pin_file", &["MCP_ESPTOOL_PKCS11_PIN_FILE"], "", "file with the PIN of the HSM's token"),
    key("idf_path", &["IDF_PATH"], "", "an installed ESP-IDF, for the tools that build"),
    key("idf_tools_path", &["IDF_TOOLS_PATH"], "", "where ESP-IDF keeps its tools (default: ~/.espressif)"),
    key("qemu_xtensa", &["QEMU_XTENSA_PATH"], "", "Espressif's qemu-system-xtensa"),
    key("qemu_riscv", &["QEMU_RISCV_PATH"], "", "Espressif's qemu-system-riscv32"),
    key("arduino_cli_path", &["ARDUINO_CLI_PATH"], "", "the arduino-cli program"),
    key("sketch_directories", &["ARDUINO_SKETCH_DIRS"], "", "folders with Arduino sketches"),
    key(
        "state_dir",
        &["MCP_ESPTOOL_STATE_DIR"],
        "",
        "where virtual devices, plans and the audit log are kept (default: ~/.local/state/mcp-esptool)",
    ),
    key(
        "ledger",
        &["MCP_ESPTOOL_LEDGER"],
        "",
        "the ledger of production: a SQLite file or postgres://… (default: ledger.db in state_dir)",
    ),
    key("station", &["MCP_ESPTOOL_STATION"], "", "this station's name in the ledger (default: the computer's)"),
    key("operator", &["MCP_ESPTOOL_OPERATOR"], "", "who works at the station, for the ledger"),
    key("shift", &["MCP_ESPTOOL_SHIFT"], "", "the shift that works at the station, for the ledger"),
    key(
        "slots",
        &["MCP_ESPTOOL_SLOTS"],
        "",
        "the station's ports in the order of its slots, each as PORT or PORT=NAME, for the station page",
    ),
    key(
        "events_file",
        &["MCP_ESPTOOL_EVENTS_FILE"],
        "",
        "file that events of the ledger are appended to, one JSON object a line",
    ),
    key(
        "events_webhook",
        &["MCP_ESPTOOL_EVENTS_WEBHOOK"],
        "",
        "https:// address that events of the ledger are posted to (http:// on this computer only)",
    ),
    key(
        "events_secret_file",
        &["MCP_ESPTOOL_EVENTS_SECRET_FILE"],
        "",
        "file with the secret that signs what is posted to events_webhook and mes_url",
    ),
    key(
        "mes_url",
        &["MCP_ESPTOOL_MES_URL"],
        "",
        "https:// address of the manufacturing execution system, below which recipes name paths to ask and to report to (http:// on this computer only)",
    ),
    key(
        "events_mqtt",
        &["MCP_ESPTOOL_EVENTS_MQTT"],
        "",
        "mqtt://HOST:PORT/TOPIC that events of the ledger are published to; without TLS and password",
    ),
    key("virtual_limit", &["MCP_ESPTOOL_VIRTUAL_LIMIT"], "32", "how many virtual devices may run at once"),
    key("keep_virtual", &[], "false", "virtual devices go on when the program that started them ends"),
    key("program", &["MCP_ESPTOOL_PROGRAM"], "", "this program's file, where another one runs the library"),
    key(
        "http_auth",
        &["MCP_ESPTOOL_HTTP_AUTH"],
        "token",
        "who may call over HTTP: token, oauth, or none (loopback addresses only)",
    ),
    key(
        "share_token_file",
        &["MCP_ESPTOOL_SHARE_TOKEN_FILE"],
        "",
        "file with the token of boards that are shared with `mcp-esptool share`, here and on other computers",
    ),
    key(
        "http_token_file",
        &["MCP_ESPTOOL_HTTP_TOKEN_FILE"],
        "",
        "file with the token that HTTP clients send; made when missing (default: http-token in state_dir)",
    ),
    key(
        "http_hosts",
        &["MCP_ESPTOOL_HTTP_HOSTS"],
        "",
        "further names that HTTP requests may address (Host), such as that of a reverse proxy",
    ),
    key(
        "http_origins",
        &["MCP_ESPTOOL_HTTP_ORIGINS"],
        "",
        "further web pages that may call (Origin): https://host:port",
    ),
    key("http_max_body_bytes", &[], "1048576", "largest HTTP request body, in bytes"),
    key("http_client_requests", &[], "64", "requests that one HTTP client may have open at once"),
    key("http_sessions", &[], "256", "sessions of HTTP clients that there may be at once"),
    key("http_connections", &[], "256", "HTTP connections that may be open at once"),
    key("simulated_limit", &[], "128", "how many simulated devices (sim://) there may be in one process"),
    key(
        "oauth_resource",
        &["MCP_ESPTOOL_OAUTH_RESOURCE"],
        "",
        "this server's public address, for OAuth: https://host/mcp",
    ),
    key("oauth_issuers", &["MCP_ESPTOOL_OAUTH_ISSUERS"], "", "authorization servers whose tokens count (OAuth)"),
    key("oauth_keys_file", &["MCP_ESPTOOL_OAUTH_KEYS"], "", "their public keys: a JWK set, fetched by the operator"),
    key("oauth_scope", &["MCP_ESPTOOL_OAUTH_SCOPE"], "", "scope that a token must have (OAuth)"),
    key("page_size", &[], "200", "tools, resources or prompts in one page of a list over MCP"),
    key("log", &["MCP_ESPTOOL_LOG"], "warn", "what goes to stderr: off, error, warn, info, debug or trace"),
];
