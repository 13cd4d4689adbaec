use super::*;

fn files() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(dir.path().join("outside"), b"secret").unwrap();
    (dir, Files::new(vec![root]))
}

#[test]
fn bounds_only_narrow() {
    let (dir, files) = files();
    let (root, inner) = (files.roots()[0].clone(), files.roots()[0].join("inner"));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a"), b"12345").unwrap();
    let outer = fs::canonicalize(dir.path()).unwrap();
    assert_eq!(files.clone().within(&[vec![outer]], None).roots(), [root]);
    let narrow = files.clone().within(&[vec![inner.clone()]], Some(4));
    assert_eq!(narrow.roots(), [inner]);
    assert_eq!(narrow.read("a").unwrap_err().code, Code::FileTooLarge);
    assert!(narrow.write("b", b"1234").is_ok());
    let error = narrow.write("c", b"12345").unwrap_err();
    assert!(error.code == Code::FileUnwritable && error.message.contains("policy"), "{error}");
    let mut part = narrow.partial("d").unwrap();
    assert!(part.write_all(b"1234").is_ok() && part.write_all(b"5").is_err());
    part.keep(2).unwrap();
    assert!(part.write_all(b"34").is_ok());
    assert_eq!(files.within(&[vec![PathBuf::from("/none")]], None).read("a").unwrap_err().code, Code::PathRefused);
}

#[test]
fn paths_stay_inside() {
    let (dir, files) = files();
    let outside = dir.path().join("outside").display().to_string();
    for path in ["../outside", "a/../../outside", outside.as_str(), "", "/etc/passwd"] {
        assert_eq!(files.read(path).unwrap_err().code, Code::PathRefused, "{path}");
        assert_eq!(files.create(path).unwrap_err().code, Code::PathRefused, "{path}");
    }
    assert_eq!(files.read("none").unwrap_err().code, Code::FileNotFound);
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_are_refused() {
    let (dir, files) = files();
    std::os::unix::fs::symlink(dir.path(), files.roots()[0].join("up")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), files.roots()[0].join("link")).unwrap();
    assert_eq!(files.read("up/outside").unwrap_err().code, Code::PathRefused);
    assert_eq!(files.read("link").unwrap_err().code, Code::PathRefused);
    assert_eq!(files.write("up/new", b"x").unwrap_err().code, Code::PathRefused);
    assert_eq!(files.write("up/new/deeper", b"x").unwrap_err().code, Code::PathRefused);
    files.write("link", b"mine").unwrap();
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"secret");
}

#[test]
fn odd_elf_files_are_read_whole() {
    let (_dir, files) = files();
    let odd = b"\x7fELF and no more".to_vec();
    files.write("odd.elf", &odd).unwrap();
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&odd).into();
    assert_eq!(files.read_elf("odd.elf").unwrap(), (odd, hash));
    files.write("empty.elf", b"").unwrap();
    assert_eq!(files.read_elf("empty.elf").unwrap_err().code, Code::FileEmpty);
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let (_dir, files) = files();
    let mut half = files.create("new/deep/file").unwrap();
    half.write_all(b"ha").unwrap();
    assert!(!files.roots()[0].join("new/deep/file").exists());
    drop(half);
    assert_eq!(fs::read_dir(files.roots()[0].join("new/deep")).unwrap().count(), 0);
    files.write("new/deep/file", b"whole").unwrap();
    assert_eq!(files.read("new/deep/file").unwrap(), b"whole");
}

#[test]
fn what_the_program_keeps_is_not_a_project_file() {
    let (_dir, files) = files();
    let root = files.roots()[0].clone();
    fs::create_dir(root.join("state")).unwrap();
    fs::write(root.join("state/http-token"), b"secret").unwrap();
    fs::write(root.join("policy.toml"), b"").unwrap();
    let files = files.keeping_out(&[root.join("state"), root.join("policy.toml"), PathBuf::from("/none/ledger.db")]);
    for path in ["state/http-token", "policy.toml", "state/plans/a.json", "state"] {
        let code = |result: Result<(), ToolError>| result.unwrap_err().code;
        if !path.contains("plans") {
            assert_eq!(code(files.input(path).map(drop)), Code::PathRefused, "{path}");
        }
        assert_eq!(code(files.write(path, b"mine").map(drop)), Code::PathRefused, "{path}");
    }
    assert_eq!(files.output_dir("state/new").unwrap_err().code, Code::PathRefused);
    assert!(!root.join("state/new").exists() && !root.join("state/plans").exists());
    assert_eq!(files.partial("state/x").unwrap_err().code, Code::PathRefused);
    assert_eq!(files.exposed().len(), 2);
    assert!(files.write("state2", b"mine").is_ok());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.join("state"), root.join("link")).unwrap();
        fs::hard_link(root.join("policy.toml"), root.join("hard.toml")).unwrap();
        assert_eq!(files.read("link/http-token").unwrap_err().code, Code::PathRefused);
        assert_eq!(files.read("hard.toml").unwrap_err().code, Code::PathRefused);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_and_devices_are_errors_at_once() {
    let (_dir, files) = files();
    let pipe = files.roots()[0].join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = files.read("pipe").unwrap_err();
    assert!(error.code == Code::FileUnreadable && error.message.contains("not a regular file"), "{error}");
    fs::rename(&pipe, files.roots()[0].join("a.part")).unwrap();
    assert_eq!(files.partial("a").unwrap_err().code, Code::FileUnwritable);
}

#[cfg(unix)]
#[test]
fn what_came_out_of_a_chip_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, files) = files();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.keep("dump.bin", b"x").unwrap()), 0o600);
    // As any other program's files are.
    fs::write(files.roots()[0].join("plain"), b"").unwrap();
    assert_eq!(mode(&files.write("image.bin", b"x").unwrap()), mode(&files.roots()[0].join("plain")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_being_written_has_no_name() {
    let (_dir, files) = files();
    let mut file = files.create("key.pem").unwrap();
    file.write_all(b"PRIVATE").unwrap();
    assert_eq!(fs::read_dir(&files.roots()[0]).unwrap().count(), 0, "a kill would leave it behind");
    file.finish_secret().unwrap();
    assert_eq!(files.read("key.pem").unwrap(), b"PRIVATE");
    files.write("key.pem", b"again").unwrap();
    assert_eq!(
        (files.read("key.pem").unwrap(), fs::read_dir(&files.roots()[0]).unwrap().count()),
        (b"again".to_vec(), 1)
    );
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_exchanged_for_a_link_leads_nowhere() {
    let (dir, files) = files();
    let root = files.roots()[0].clone();
    let outside = dir.path().join("elsewhere");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"secret").unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/a"), b"inside").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let swap = || {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = fs::rename(root.join("sub"), root.join("kept"));
            let _ = fs::rename(root.join("link"), root.join("sub"));
            let _ = fs::rename(root.join("sub"), root.join("link"));
            let _ = fs::rename(root.join("kept"), root.join("sub"));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(swap);
        for _ in 0..3000 {
            if let Ok(bytes) = files.read("sub/a") {
                assert_ne!(bytes, b"secret");
            }
            let _ = files.write("sub/out", b"x");
            let _ = files.create("sub/half").map(|mut file| file.write_all(b"x"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was written outside");
}

#[test]
fn a_persons_paths_lead_anywhere_but_not_to_what_the_program_keeps() {
    let (dir, files) = files();
    let here = files.roots()[0].clone();
    let secret = dir.path().join("secret.toml");
    fs::write(&secret, b"mine").unwrap();
    let files = Files::new(Vec::new()).keeping_out(std::slice::from_ref(&secret)).anywhere(&here);
    assert_eq!(files.read("../outside").unwrap(), b"secret");
    assert_eq!(files.read(&dir.path().join("outside").display().to_string()).unwrap(), b"secret");
    files.write("../new/deep/file", b"x").unwrap();
    assert_eq!(fs::read(dir.path().join("new/deep/file")).unwrap(), b"x");
    files.write("here", b"x").unwrap();
    assert!(here.join("here").exists(), "relative paths start at the current folder");
    assert_eq!(files.read("../secret.toml").unwrap_err().code, Code::PathRefused);
    assert_eq!(files.write("../secret.toml", b"x").unwrap_err().code, Code::PathRefused);
}
