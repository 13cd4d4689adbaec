//! Links and wrapper files by which build systems find the faces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::FACES;

/// A wrapper file: its path below the folder, and its text with the program in place of `@PROGRAM@`.
const WRAPPERS: [(&str, &str); 3] = [
    ("esptool_wrapper.py", include_str!("wrappers/esptool_wrapper.py")),
    ("platform.local.txt", include_str!("wrappers/platform.local.txt")),
    ("platformio.ini.txt", include_str!("wrappers/platformio.ini.txt")),
];
/// What `NAME.py` and `python -m NAME` become.
const SHIM: &str = include_str!("wrappers/shim.py");

/// Makes a link for each face and the wrapper files below `folder`. Returns what was made.
pub fn make(folder: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let folder = &fs::canonicalize(folder)?;
    let mut made = Vec::new();
    for face in FACES {
        let link = folder.join(format!("{}{}", face.name, std::env::consts::EXE_SUFFIX));
        replace(&link, program)?;
        made.push(link);
        let shim = SHIM.replace("@PROGRAM@", &literal(program)).replace("@FACE@", face.name);
        let script = folder.join(format!("{}.py", face.name));
        write(&script, &shim, true)?;
        made.push(script);
        let module = folder.join("python").join(face.name);
        fs::create_dir_all(&module)?;
        write(&module.join("__main__.py"), &shim, false)?;
    }
    made.push(folder.join("python"));
    for (name, text) in WRAPPERS {
        let path = folder.join(name);
        let text = text.replace("@PROGRAM@", &literal(program)).replace("@FOLDER@", &folder.display().to_string());
        write(&path, &text, false)?;
        made.push(path);
    }
    Ok(made)
}

/// A path as a Python literal.
fn literal(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Puts a link to the program in place of what has this name; refuses what is no link of ours.
fn replace(link: &Path, program: &Path) -> io::Result<()> {
    match fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() || cfg!(windows) => fs::remove_file(link)?,
        Ok(_) => {
            let text = format!("{} exists and is not a link: remove it, or name another folder", link.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Err(_) => {}
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(program, link);
    #[cfg(not(unix))]
    return fs::hard_link(program, link).or_else(|_| fs::copy(program, link).map(drop));
}

fn write(path: &Path, text: &str, executable: bool) -> io::Result<()> {
    fs::write(path, text)?;
    #[cfg(unix)]
    if executable {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let _ = executable;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_name_program_and_folder() {
        let folder = std::env::temp_dir().join(format!("esp-faces-links-{}", std::process::id()));
        let made = make(&folder, Path::new("/opt/a b/mcp-esptool"));
        let files = made.as_ref().map(Vec::as_slice).unwrap_or_default().iter().filter(|path| !path.is_symlink());
        let texts: Vec<String> = files.filter_map(|path| fs::read_to_string(path).ok()).collect();
        let _ = fs::remove_dir_all(&folder);
        assert!(made.is_ok(), "{made:?}");
        assert!(texts.len() > FACES.len());
        for text in texts {
            assert!(!text.contains('@'), "{text}");
            assert!(text.contains("/opt/a b/mcp-esptool") || text.contains("esp-faces-links"), "{text}");
        }
    }
}
