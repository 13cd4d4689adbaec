//! `--hsm`: keys that stay in a hardware security module, through its PKCS#11 library.

use clap::Arg;
use esp_model::secure::{PublicKey, SecureError};
use zeroize::Zeroizing;

use crate::command::{Call, flag, option};
use crate::fault::Fault;
use crate::files;

/// What the configuration says about a module, its keys and how it is opened.
pub struct Hsm {
    /// The PKCS#11 library.
    pub library: String,
    /// The slot's number.
    pub slot: u64,
    /// The PIN of its user.
    pub pin: Zeroizing<String>,
    /// The private key's label.
    pub label: String,
    /// The public key's label.
    pub public_label: String,
}

/// `--hsm` and `--hsm-config`.
pub fn options() -> [Arg; 2] {
    [
        flag("hsm", "Use a key in a hardware security module (PKCS#11)"),
        option("hsm-config", "Configuration of the hardware security module").value_name("FILE"),
    ]
}

/// Both options or none.
pub fn check(call: &Call<'_>) -> Result<(), Fault> {
    match (call.has("hsm"), call.optional("hsm-config")) {
        (true, None) => Err(Fault::value("--hsm-config", "--hsm-config is required when --hsm is used")),
        (false, Some(_)) => Err(Fault::value("--hsm", "--hsm-config requires --hsm to be used")),
        _ => Ok(()),
    }
}

/// The settings of `--hsm-config`: the section `[hsm_config]` of an INI file.
pub fn settings(call: &Call<'_>) -> Result<Hsm, Fault> {
    let path = call
        .optional("hsm-config")
        .ok_or_else(|| Fault::fatal("Config file is required to generate signature using an external HSM."))?;
    let text = Zeroizing::new(String::from_utf8_lossy(&files::read(path, "--hsm-config")?).into_owned());
    parse(&text).map_err(|why| Fault::Fatal(format!("Incorrect HSM config file format ({why}).")))
}

fn parse(text: &str) -> Result<Hsm, String> {
    let section = "hsm_config";
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[hsm_config]");
    lines.next().ok_or_else(|| format!("No section: '{section}'"))?;
    let own: Vec<_> = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once(['=', ':']))
        .map(|(key, value)| (key.trim().to_lowercase(), value.trim()))
        .collect();
    let optional = |name: &str| own.iter().find(|(key, _)| key == name).map(|(_, value)| (*value).to_string());
    let needed = |name: &str| optional(name).ok_or_else(|| format!("No option '{name}' in section: '{section}'"));
    let slot = needed("slot")?;
    let label = needed("label")?;
    Ok(Hsm {
        library: needed("pkcs11_lib")?,
        slot: slot.parse().map_err(|_| format!("slot '{slot}' is not a number"))?,
        // esptool asks for it at the keyboard.
        pin: Zeroizing::new(needed("credentials")?),
        public_label: optional("label_pubkey").unwrap_or_else(|| label.clone()),
        label,
    })
}

/// The public key in the module.
pub fn public_key(call: &Call<'_>, settings: &Hsm) -> Result<PublicKey, Fault> {
    call.terminal.say("Trying to extract public key from the HSM...");
    let key = call.host.hsm_public_key(settings).map_err(Fault::Fatal)?;
    call.terminal.say(format_args!("Got public key with label {}.", settings.public_label));
    Ok(key)
}

/// Signs content with the private key in the module that belongs to `key`.
pub fn sign(call: &Call<'_>, settings: &Hsm, key: &PublicKey, content: &[u8]) -> Result<Vec<u8>, Fault> {
    sign_digest(call, settings, key, &key.scheme().digest(content)).map_err(Fault::fatal)
}

/// The same with a digest.
pub fn sign_digest(call: &Call<'_>, settings: &Hsm, key: &PublicKey, digest: &[u8]) -> Result<Vec<u8>, SecureError> {
    call.terminal.say("Signing payload using the HSM...");
    let signature = call.host.hsm_sign(settings, key.scheme(), digest).map_err(SecureError::Signer)?;
    call.terminal.say("Signature generation successful.");
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn settings_are_read_and_what_is_missing_is_named() {
        let text = "[hsm_config]\npkcs11_lib = /lib/x.so\nslot = 12\nlabel = a key\ncredentials: 1234\n";
        let found = parse(text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((found.slot, found.label.as_str(), found.public_label.as_str()), (12, "a key", "a key"));
        assert_eq!(found.pin.as_str(), "1234");
        for (without, why) in [("slot = 12", "'slot'"), ("[hsm_config]", "'hsm_config'"), ("label = a key", "'label'")]
        {
            let refused = parse(&text.replace(without, "")).err();
            assert!(refused.as_deref().is_some_and(|text| text.contains(why)), "{without}: {refused:?}");
        }
    }
}
