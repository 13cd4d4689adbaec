use std::process::{Child, Command, Stdio};

use super::*;

const HELPER: &str = "ESP_LINK_TEST_LOCK_DIR";

fn key() -> DeviceKey {
    DeviceKey::new("tty", "/dev/ttyTEST0")
}

/// Not a test of its own: the other process of the tests below, which run this binary again.
#[test]
fn helper_holds_the_lock() {
    let Some(dir) = std::env::var_os(HELPER) else { return };
    let _lock = Locks::at(PathBuf::from(&dir)).acquire(&key(), Duration::ZERO).unwrap();
    fs::write(PathBuf::from(dir).join("ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn other_process(dir: &Path) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "port::lock::tests::helper_holds_the_lock", "--nocapture"])
        .env(HELPER, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !dir.join("ready").exists() {
        assert!(Instant::now() < until, "the other process did not take the lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let locks = Locks::at(dir.path());
    let mut child = other_process(dir.path());

    match locks.acquire(&key(), Duration::ZERO) {
        Err(LockError::Held(Some(holder))) => {
            assert_eq!(holder.pid, child.id());
            assert!(holder.command.contains("helper_holds_the_lock"), "{holder}");
            assert!(holder.since_unix_s.is_some());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(locks.holder(&key()).map(|holder| holder.pid), Some(child.id()));
    assert!(locks.acquire(&DeviceKey::new("tty", "/dev/ttyTEST1"), Duration::ZERO).is_ok());

    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert_eq!(locks.holder(&key()), None);
    locks.acquire(&key(), Duration::ZERO).unwrap();
}

#[test]
fn waits_for_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let locks = Locks::at(dir.path());
    let held = locks.acquire(&key(), Duration::ZERO).unwrap();
    assert!(matches!(locks.acquire(&key(), Duration::from_millis(30)), Err(LockError::Held(Some(_)))));
    let waiter = std::thread::spawn(move || locks.acquire(&key(), Duration::from_secs(20)).is_ok());
    std::thread::sleep(Duration::from_millis(30));
    drop(held);
    assert!(waiter.join().unwrap());
}

#[cfg(unix)]
#[test]
fn links_are_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("device");
    let link = dir.path().join("by-id");
    fs::write(&device, "").unwrap();
    std::os::unix::fs::symlink(&device, &link).unwrap();
    assert_eq!(DeviceKey::of_path(&link), DeviceKey::of_path(&device));
}

#[test]
fn names_of_this_machine_are_one() {
    let at = |text: &str| DeviceKey::of_endpoint(&text.parse().unwrap());
    assert_eq!(at("localhost:5555"), at("127.0.0.1:5555"));
    assert_eq!(at("LOCALHOST:5555"), at("[::1]:5555"));
    assert_ne!(at("localhost:5555"), at("localhost:5556"));
    assert_ne!(at("board:5555"), at("localhost:5555"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Locks::at(file.join("locks")).acquire(&key(), Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("file/locks"), "{error}");
}
