use super::*;
use esp_model::mac::Mac;

#[test]
fn the_same_unit_under_another_name() {
    let usb = |serial: Option<&str>, location: &str, pid| UsbDevice {
        vid: 0x303a,
        pid,
        serial_number: serial.map(str::to_string),
        location: Some(location.into()),
        ..UsbDevice::default()
    };
    let board = usb(Some("24:0A:C4:00:11:22"), "1-1:1.0", 0x1001);
    assert!(board.is_same_unit(&usb(Some("24:0A:C4:00:11:22"), "2-3:1.0", 0x1001)), "moved to another hub");
    assert!(!board.is_same_unit(&usb(Some("24:0A:C4:00:11:22"), "1-1:1.2", 0x1001)), "the unit's other interface");
    assert!(board.is_same_unit(&usb(Some("24:0A:C4:00:11:22"), "1-1:1.2", 0x0002)), "another mode of the chip");
    assert!(board.is_same_unit(&usb(None, "1-1:1.0", 0x0002)), "no serial number in the other mode");
    assert!(!board.is_same_unit(&usb(Some("24:0A:C4:00:11:33"), "1-2:1.0", 0x1001)), "another board");
    assert_eq!(board.mac(), Some(Mac([0x24, 0x0a, 0xc4, 0, 0x11, 0x22])));
    assert_eq!(usb(Some("0001"), "1-1:1.0", 1).mac(), None);
}

#[test]
fn ports_are_chosen_by_usb_id_serial_number_and_location() {
    let port = |path: &str, vid, pid, serial: &str, location: &str| FoundPort {
        path: path.into(),
        usb: Some(UsbDevice {
            vid,
            pid,
            serial_number: Some(serial.into()),
            location: Some(location.into()),
            ..UsbDevice::default()
        }),
        ..FoundPort::default()
    };
    let plain = FoundPort { path: "/dev/ttyS0".into(), ..FoundPort::default() };
    let ports = [
        plain,
        port("/dev/ttyACM0", 0x303a, 0x1001, "24:0A:C4:00:11:22", "1-1:1.0"),
        port("/dev/ttyUSB0", 0x10c4, 0xea60, "0001", "1-2:1.0"),
        port("/dev/ttyUSB1", 0x10c4, 0xea60, "0002", "1-3.4:1.0"),
    ];
    let chosen = |url: &str| the_one(&url.parse().unwrap(), &ports);
    for (url, path) in [
        ("usb:303a:1001", "/dev/ttyACM0"),
        ("usb:303a", "/dev/ttyACM0"),
        ("serial:0002", "/dev/ttyUSB1"),
        ("location:1-3.4", "/dev/ttyUSB1"),
        ("location:1-2:1.0", "/dev/ttyUSB0"),
    ] {
        assert_eq!(chosen(url).unwrap(), path, "{url}");
    }
    assert!(matches!(chosen("usb:10c4:ea60"), Err(PortError::Several { matches, .. }) if matches.len() == 2));
    assert!(matches!(chosen("usb:1a86"), Err(PortError::NoMatch { present, .. }) if present.len() == 4));
    assert!(chosen("location:1-3").is_err(), "a hub is not its port");
}

#[test]
fn sorts_by_number() {
    let mut names = ["/dev/ttyUSB10", "/dev/ttyUSB9", "/dev/ttyACM3"];
    names.sort_by_key(|name| natural(name));
    assert_eq!(names, ["/dev/ttyACM3", "/dev/ttyUSB9", "/dev/ttyUSB10"]);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs tree as the kernel lays it out: an FTDI bridge, a chip's own USB, a UART and an empty UART slot.
    fn machine(root: &Path) -> (PathBuf, PathBuf) {
        let (sys, dev) = (root.join("sys"), root.join("dev"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let usb = sys.join("devices/pci0/usb1");
        for (unit, ids) in [
            ("1-1", [("idVendor", "0403"), ("idProduct", "6015"), ("product", "FT231X"), ("serial", "DQ0")]),
            ("1-2", [("idVendor", "303a"), ("idProduct", "1001"), ("devnum", "9"), ("serial", "24:0A:C4:00:11:22")]),
        ] {
            for (file, text) in ids {
                write(usb.join(unit).join(file), &format!("{text}\n"));
            }
            write(usb.join(unit).join(format!("{unit}:1.0/bInterfaceNumber")), "00\n");
        }
        for (name, device) in [
            ("ttyUSB0", "pci0/usb1/1-1/1-1:1.0/ttyUSB0"),
            ("ttyACM0", "pci0/usb1/1-2/1-2:1.0"),
            ("ttyS0", "platform/serial8250"),
            ("ttyS1", "platform/serial8250"),
        ] {
            let tty = sys.join("class/tty").join(name);
            fs::create_dir_all(&tty).unwrap();
            fs::create_dir_all(sys.join("devices").join(device)).unwrap();
            symlink(sys.join("devices").join(device), tty.join("device")).unwrap();
            write(dev.join(name), "");
        }
        write(sys.join("class/tty/ttyS0/type"), "4\n");
        write(sys.join("class/tty/ttyS1/type"), "0\n");
        fs::create_dir_all(sys.join("class/tty/tty1")).unwrap();
        write(dev.join("tty1"), "");
        symlink("/sys/bus/usb-serial/drivers/ftdi_sio", usb.join("1-1/1-1:1.0/ttyUSB0/driver")).unwrap();
        fs::create_dir_all(dev.join("serial/by-id")).unwrap();
        symlink(dev.join("ttyUSB0"), dev.join("serial/by-id/usb-FTDI_DQ0")).unwrap();
        (sys, dev)
    }

    #[test]
    fn reads_what_the_kernel_says() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (sys, dev) = machine(&root);
        let mut ports = super::super::system::ports_in(&sys, &dev);
        ports.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<_> = ports.iter().map(|port| Path::new(&port.path).file_name().unwrap()).collect();
        assert_eq!(names, ["ttyACM0", "ttyS0", "ttyUSB0"]);

        let chip = ports[0].usb.as_ref().unwrap();
        assert_eq!((chip.vid, chip.pid, chip.enumeration), (0x303a, 0x1001, Some(9)));
        assert_eq!((chip.location.as_deref(), chip.product.as_deref()), (Some("1-2:1.0"), None));
        assert_eq!(chip.mac(), Some(Mac([0x24, 0x0a, 0xc4, 0, 0x11, 0x22])));

        assert_eq!(ports[1].usb, None);

        let bridge = ports[2].usb.as_ref().unwrap();
        assert_eq!((bridge.vid, bridge.product.as_deref()), (0x0403, Some("FT231X")));
        assert_eq!(bridge.location.as_deref(), Some("1-1:1.0"));
        assert_eq!(ports[2].driver.as_deref(), Some("ftdi_sio"));
        assert!(ports[2].links[0].ends_with("by-id/usb-FTDI_DQ0"));
    }

    #[test]
    fn names_the_process_that_has_a_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap().join("device");
        fs::write(&path, "").unwrap();
        assert_eq!(holder_of(&path), None);
        let file = fs::File::open(&path).unwrap();
        assert_eq!(holder_of(&path), None, "this process does not count");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let mut holder = None;
        for _ in 0..1000 {
            holder = holder_of(&path);
            if holder.as_ref().is_some_and(|holder| !holder.command.is_empty()) {
                break; // the child has become its program
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let holder = holder.unwrap();
        assert_eq!((holder.pid, holder.command.as_str()), (child.id(), "sleep 60"));
    }
}
