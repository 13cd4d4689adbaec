//! Secure Debug Certificates: checked with the library that the reference signs with.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::reference::{Stop, fail, same_bytes, scratch, tool, trial};
use crate::{face, ran};

pub fn trials() -> Vec<Trial> {
    vec![trial("faces: espsecure makes debug certificates like the reference's", certificates)]
}

/// Verifies each certificate: key, permissions, device, hash, signature.
const CHECK: &str = "
import hashlib, sys, zlib
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
key = serialization.load_pem_private_key(open(sys.argv[1], 'rb').read(), None).public_key()
n = key.public_numbers()
for name in sys.argv[2:]:
    cert = open(name, 'rb').read()
    usc, point, r, s, digest, nonce = (cert[a:b] for a, b in ((20, 276), (276, 340), (340, 372), (372, 404), (404, 436), (436, 468)))
    assert len(cert) == 468 and point == n.x.to_bytes(32, 'big') + n.y.to_bytes(32, 'big'), name
    assert digest == hashlib.sha256(cert[20:404]).digest(), name
    assert int.from_bytes(cert[12:16], 'little') == zlib.crc32(cert[20:436], 0xffffffff), name
    unique = hashlib.sha256(bytes.fromhex('554433221100')).digest()
    device = hashlib.sha256(unique + nonce + bytes([3 << 4])).digest()
    signature = utils.encode_dss_signature(int.from_bytes(r, 'big'), int.from_bytes(s, 'big'))
    key.verify(signature, usc + device, ec.ECDSA(hashes.SHA256()))
    print(cert[:12].hex(), usc[:4].hex())
";

fn certificates() -> Result<(), Stop> {
    let folder = scratch("faces-sdc");
    fs::write(folder.join("chip"), (0..64).collect::<Vec<u8>>())?;
    fs::write(folder.join("short"), [0; 63])?;
    fs::write(
        folder.join("usc.json"),
        r#"{"version": 1, "groups": [{"group": "config_flags", "entries": [{"key": "enable_jtag", "value": true}]}]}"#,
    )?;
    fs::write(folder.join("bad.json"), r#"{"version": 2}"#)?;
    let run = |own: bool, words: &str| {
        let mut command = if own { face("espsecure") } else { Command::new(tool("espsecure")?) };
        ran(command.args(words.split(' ')), &folder)
    };
    for scheme in ["ecdsa256", "ecdsa384"] {
        run(false, &format!("generate-signing-key --version 2 --scheme {scheme} {scheme}.pem"))?;
    }
    let base = "generate-sdc-certificate -k ecdsa256.pem -o OUT";
    for (line, code) in [
        (format!("{base} --mac 00:11:22:33:44:55 --sdc-session-counter 3 --enable-jtag --enable-force-spi-boot"), 0),
        (format!("{base} --mac 001122334455 --sdc-session-counter 3 --usc usc.json"), 0),
        (format!("{base} --chip-info chip"), 0),
        ("digest-sdc-public-key -k ecdsa256.pem -o OUT".into(), 0),
        (format!("{base} --chip-info short"), 2),
        (format!("{base} --mac 00:11 --enable-jtag"), 2),
        (format!("{base} --mac 001122334455 --sdc-session-counter 2"), 2),
        (format!("{base} --mac 001122334455 --usc bad.json"), 2),
        (base.to_string(), 2),
        ("generate-sdc-certificate -k ecdsa384.pem -o OUT --chip-info chip".into(), 2),
        ("digest-sdc-public-key -o OUT".into(), 2),
    ] {
        let (got, wanted) = (run(true, &line.replace("OUT", "ours"))?, run(false, &line.replace("OUT", "theirs"))?);
        let said = got.text.replace("ours", "OUT") == wanted.text.replace("theirs", "OUT");
        if (got.code, wanted.code) != (code, code) || code == 0 && !said {
            return fail(format!("{line}: {got:?} not {wanted:?}"));
        }
        let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
        if line.starts_with("digest") && code == 0 {
            same_bytes(&line, &fs::read(ours)?, &fs::read(theirs)?)?;
        } else if line.contains("counter 3") {
            let mut check = Command::new(tool("python")?);
            let checked = ran(check.args(["-c", CHECK, "ecdsa256.pem", "ours", "theirs"]), &folder)?;
            let heads: Vec<&str> = checked.text.lines().collect();
            if checked.code != 0 || heads.len() != 2 || heads[0] != heads[1] {
                return fail(format!("{line}: {}", checked.text));
            }
        }
    }
    Ok(())
}
