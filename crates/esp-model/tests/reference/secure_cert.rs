//! `esp_secure_cert` partitions against `configure_esp_secure_cert.py`.

use std::fs;
use std::process::Command;

use esp_model::secure_cert::{self, Entry, kind};
use libtest_mimic::Trial;

use crate::reference::{self, Stop, same_bytes, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("secure_cert: certificates and key in PEM", partition)]
}

/// A key and a certificate of its own, in PEM.
const MAKE: &str = r"
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
for name in ('device', 'ca'):
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name * 9)])
    now = datetime.datetime(2026, 1, 1)
    cert = (x509.CertificateBuilder().subject_name(title).issuer_name(title).public_key(key.public_key())
            .serial_number(77).not_valid_before(now).not_valid_after(now.replace(year=2046)).sign(key, hashes.SHA256()))
    open(name + '.pem', 'wb').write(cert.public_bytes(s.Encoding.PEM))
    open(name + '.key', 'wb').write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption()))
";

fn partition() -> Result<(), Stop> {
    let dir = reference::scratch("secure-cert");
    let python = reference::cert_tool("python")?;
    reference::run(Command::new(&python).args(["-c", MAKE]).current_dir(&dir))?;
    let mut tool = Command::new(&python);
    tool.arg(reference::cert_tool("configure_esp_secure_cert.py")?).args([
        "--private-key",
        "device.key",
        "--device-cert",
        "device.pem",
        "--ca-cert",
        "ca.pem",
        "--target_chip",
        "esp32c3",
        "--secure_cert_type",
        "cust_flash_tlv",
        "--skip_flash",
        "--priv_key_algo",
        "ECDSA",
        "256",
    ]);
    reference::run(tool.current_dir(&dir))?;
    let theirs = fs::read(dir.join("esp_secure_cert_data/esp_secure_cert.bin"))?;
    let from = |kind: u8, file: &str| Ok::<_, std::io::Error>(Entry::from_file(kind, &fs::read(dir.join(file))?));
    let entries = [
        from(kind::CA_CERT, "ca.pem")?,
        from(kind::DEVICE_CERT, "device.pem")?,
        from(kind::PRIVATE_KEY, "device.key")?,
    ];
    let ours = secure_cert::build(&entries, secure_cert::SIZE)?;
    // The tool leaves out what is blank behind the entries.
    same_bytes("partition", ours.get(..theirs.len()).unwrap_or_default(), &theirs)?;
    same_bytes("rest", ours.get(theirs.len()..).unwrap_or_default(), &vec![0xff; ours.len() - theirs.len()])?;
    if secure_cert::read(&theirs)? != entries {
        return reference::fail("the entries are read otherwise");
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}
