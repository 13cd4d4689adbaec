//! `get-security-info`.

use clap::Command;
use esp_link::detect::SecurityInfo;

use super::session::{self, failed};
use crate::command::Call;
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("get-security-info").about("Print what the ROM says about security")
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| {
        let info = session.loader.security_info(&session.job).map_err(|error| {
            let chip = &session.loader.chip().name;
            if error.is_unknown_command() || matches!(error, esp_link::LoaderError::Unsupported { .. }) {
                return Fault::Fatal(format!("{chip} does not support 'get_security_info' command."));
            }
            failed(error)
        })?;
        let table = session.loader.chip().efuse();
        let named = |code: u32| table.key_purposes.iter().find(|purpose| purpose.value.map(u32::from) == Some(code));
        let name = |code: &u8| match (code, named((*code).into())) {
            // A block without a purpose has a name of its own here.
            (0, Some(purpose)) => format!("{}/EMPTY", purpose.name),
            (_, Some(purpose)) => purpose.name.clone(),
            (_, None) => "UNKNOWN".into(),
        };
        let purposes = (!table.key_purposes.is_empty()).then(|| info.key_purposes.iter().map(name).collect());
        describe(call, &info, purposes);
        Ok(())
    })
}

fn describe(call: &Call<'_>, info: &SecurityInfo, purposes: Option<Vec<String>>) {
    let terminal = call.terminal;
    terminal.say("Security Information:\n=====================");
    terminal.say(format_args!("Flags: {:#010x} ({:#b})", info.flags, info.flags));
    if let Some(names) = purposes {
        let codes: Vec<String> = info.key_purposes.iter().map(u8::to_string).collect();
        terminal.say(format_args!("Key Purposes: ({})", codes.join(", ")));
        // The seventh is not a key block.
        for (key, name) in names.iter().enumerate().take(6) {
            terminal.say(format_args!("  BLOCK_KEY{key} - {name}"));
        }
    }
    if let (Some(chip), Some(version)) = (info.chip_id, info.api_version) {
        terminal.say(format_args!("Chip ID: {chip}\nAPI Version: {version}"));
    }
    secure_boot(call, info);
    let encrypted = if info.flash_crypt_count.count_ones() % 2 == 1 { "Enabled" } else { "Disabled" };
    terminal.say(format_args!("Flash Encryption: {encrypted}"));
    let count = info.flash_crypt_count;
    terminal.say(format_args!("SPI Boot Crypt Count (SPI_BOOT_CRYPT_CNT): {count:#x}"));
    let flags = info.flag_names();
    let texts = [
        ("DIS_DOWNLOAD_DCACHE", "Dcache in UART download mode: Disabled"),
        ("DIS_DOWNLOAD_ICACHE", "Icache in UART download mode: Disabled"),
        ("HARD_DIS_JTAG", "JTAG: Permanently Disabled"),
        ("SOFT_DIS_JTAG", "JTAG: Software Access Disabled"),
        ("DIS_USB", "USB Access: Disabled"),
    ];
    let hard = flags.contains(&"HARD_DIS_JTAG");
    for (flag, text) in texts.iter().filter(|(flag, _)| flags.contains(flag)) {
        if !(hard && *flag == "SOFT_DIS_JTAG") {
            terminal.say(text);
        }
    }
}

fn secure_boot(call: &Call<'_>, info: &SecurityInfo) {
    if !info.is_secure_boot() {
        call.terminal.say("Secure Boot: Disabled");
        return;
    }
    call.terminal.say("Secure Boot: Enabled");
    let flags = info.flag_names();
    if flags.contains(&"SECURE_BOOT_AGGRESSIVE_REVOKE") {
        call.terminal.say("Secure Boot Aggressive key revocation: Enabled");
    }
    let revoked: Vec<u8> = (0..3).filter(|key| flags.contains(&&*format!("SECURE_BOOT_KEY_REVOKE{key}"))).collect();
    if !revoked.is_empty() {
        call.terminal.say("Secure Boot Key Revocation Status:\n");
        revoked.iter().for_each(|key| call.terminal.say(format_args!("\tSecure Boot Key{key} is Revoked\n")));
    }
}
