//! Signing with a key in an HSM (SoftHSM), verified by espsecure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::reference::{self, Skip, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("hsm: keys in a PKCS#11 token sign what espsecure verifies", signs)]
}

/// Makes a key of each scheme as PKCS#8, for the token, and its public half.
const KEYS: &str = "
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa
for name, key in (('rsa3072', rsa.generate_private_key(65537, 3072)), ('ecdsa256', ec.generate_private_key(ec.SECP256R1())),
                  ('ecdsa384', ec.generate_private_key(ec.SECP384R1()))):
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    open(f'{sys.argv[1]}/{name}.p8', 'wb').write(private)
    open(f'{sys.argv[1]}/{name}.pub', 'wb').write(public)
";

fn library() -> Result<PathBuf, Stop> {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| Skip("no SoftHSM (Debian package softhsm2)".into()).into())
}

fn signs() -> Result<(), Stop> {
    let library = library()?;
    let dir = reference::scratch("hsm");
    fs::create_dir(dir.join("tokens"))?;
    let settings = dir.join("softhsm2.conf");
    fs::write(&settings, format!("directories.tokendir = {}\n", dir.join("tokens").display()))?;
    fs::write(dir.join("pin"), "1234\n")?;
    fs::write(dir.join("app.bin"), [0x5a; 5000])?;
    reference::run(Command::new(reference::tool("python")?).args(["-c", KEYS]).arg(&dir))?;
    let token = |args: &[&str]| {
        let mut command = Command::new("softhsm2-util");
        reference::run(command.args(args).args(["--token", "bench", "--pin", "1234"]).env("SOFTHSM2_CONF", &settings))
    };
    reference::run(
        Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "bench", "--pin", "1234", "--so-pin", "4321"])
            .env("SOFTHSM2_CONF", &settings),
    )?;
    for (id, scheme) in ["rsa3072", "ecdsa256", "ecdsa384"].into_iter().enumerate() {
        let key = dir.join(scheme).with_extension("p8").display().to_string();
        token(&["--import", &key, "--label", scheme, "--id", &format!("0{id}")])?;
        let signed = format!("{scheme}.bin");
        reference::run(ours(&dir, &library, scheme, &signed).env("SOFTHSM2_CONF", &settings))?;
        let mut espsecure = Command::new(reference::tool("espsecure")?);
        espsecure.args(["verify-signature", "--version", "2", "--keyfile"]);
        reference::run(espsecure.arg(dir.join(scheme).with_extension("pub")).arg(dir.join(&signed)))?;
        face(&dir, &library, &settings, scheme)?;
    }
    // A label that is not there is told, and nothing is written.
    let output = ours(&dir, &library, "ecdsa256", "none.bin")
        .arg("pkcs11_key=other")
        .env("SOFTHSM2_CONF", &settings)
        .output()?;
    if output.status.success() || !reference::text(&output).contains("signer_failed") || dir.join("none.bin").exists() {
        return fail(reference::text(&output));
    }
    Ok(())
}

/// `espsecure --hsm` signs, adds a signature and verifies; the reference verifies with the public key.
fn face(dir: &Path, library: &Path, settings: &Path, scheme: &str) -> Result<(), Stop> {
    let shown = reference::run(Command::new("softhsm2-util").arg("--show-slots").env("SOFTHSM2_CONF", settings))?;
    let shown = reference::text(&shown);
    let slot = shown.lines().find_map(|line| line.strip_prefix("Slot ")).unwrap_or_default().to_owned();
    let config = format!(
        "[hsm_config]\npkcs11_lib = {}\nslot = {slot}\ncredentials = 1234\nlabel = {scheme}\n",
        library.display()
    );
    fs::write(dir.join("hsm.ini"), config)?;
    let espsecure = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(["face", "espsecure"]).args(words.split(' ')).env("SOFTHSM2_CONF", settings).current_dir(dir);
        reference::run(&mut command).map(|output| reference::text(&output))
    };
    espsecure("sign-data --version 2 --hsm --hsm-config hsm.ini --output one.bin app.bin")?;
    espsecure(&format!(
        "sign-data --version 2 -a --hsm --hsm-config hsm.ini --pub-key {scheme}.pub -o two.bin one.bin"
    ))?;
    let said = espsecure("verify-signature --version 2 --hsm --hsm-config hsm.ini two.bin")?;
    if said.matches("verification successful").count() != 2 {
        return fail(said);
    }
    let mut theirs = Command::new(reference::tool("espsecure")?);
    theirs.args(["verify-signature", "--version", "2", "--keyfile"]).arg(dir.join(scheme).with_extension("pub"));
    reference::run(theirs.arg(dir.join("two.bin")))?;
    if scheme == "ecdsa256" {
        espsecure("generate-sdc-certificate --hsm --hsm-config hsm.ini --mac 001122334455 -o cert.bin")?;
        espsecure("digest-sdc-public-key --hsm --hsm-config hsm.ini -o by_hsm.bin")?;
        espsecure("digest-sdc-public-key --pub-key ecdsa256.pub -o by_file.bin")?;
        reference::same_bytes("digest", &fs::read(dir.join("by_hsm.bin"))?, &fs::read(dir.join("by_file.bin"))?)?;
    }
    Ok(())
}

fn ours(dir: &Path, library: &Path, scheme: &str, signed: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["call", "esp_secure_sign", "action=sign", "input_file=app.bin"]);
    command.arg(format!("key_files=[\"{scheme}.pub\"]")).arg(format!("output_file={signed}"));
    if signed != "none.bin" {
        command.arg(format!("pkcs11_key={scheme}"));
    }
    for (name, value) in [("pkcs11_module", library), ("project_roots", dir), ("pkcs11_pin_file", &dir.join("pin"))] {
        command.arg("--set").arg(format!("{name}={}", value.display()));
    }
    command.args(["--set", "pkcs11_token=bench"]);
    command
}
