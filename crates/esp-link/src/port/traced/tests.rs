use super::super::replay::Replay;
use super::super::trace::Trace;
use super::*;

/// A device that answers each byte with its complement, one byte after 3 ms.
#[derive(Default)]
struct Device {
    now: Duration,
    answer: Vec<u8>,
    broken: bool,
    baud: u32,
}

impl Port for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "gone"));
        }
        self.broken = bytes == b"break";
        self.answer.extend(bytes.iter().map(|b| !b));
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let needed = Duration::from_millis(3);
        self.now += needed.min(wait);
        if self.answer.is_empty() || wait < needed {
            return Ok(0);
        }
        buf[0] = self.answer.remove(0);
        Ok(1)
    }
    fn set_lines(&mut self, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.baud = baud;
        Ok(())
    }
    fn baud(&self) -> u32 {
        self.baud
    }
    fn sleep(&mut self, time: Duration) {
        self.now += time;
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn info(&self) -> PortInfo {
        PortInfo { url: "sim://test".into(), ..PortInfo::default() }
    }
}

/// A client of all operations; its bytes as read.
fn client(port: &mut dyn Port, greeting: &[u8]) -> io::Result<Vec<u8>> {
    port.set_lines(false, true)?;
    port.sleep(Duration::from_millis(100));
    port.set_lines(true, false)?;
    port.set_baud(921_600)?;
    for piece in greeting.chunks(2) {
        port.write(piece)?;
    }
    let (mut got, mut buf) = (Vec::new(), [0; 64]);
    while got.len() < greeting.len() {
        let count = port.read(&mut buf, Duration::from_millis(10))?;
        assert!(count > 0);
        got.extend_from_slice(&buf[..count]);
    }
    assert_eq!(port.read(&mut buf, Duration::from_millis(1))?, 0);
    port.reopen()?;
    port.write(b"break")?;
    let error = port.write(b"x").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotConnected, "gone"));
    Ok(got)
}

fn recorded() -> (Vec<u8>, String) {
    let mut traced = Traced::new(Device::default(), Vec::new());
    let got = client(&mut traced, b"hello\xff").unwrap();
    (got, String::from_utf8(traced.into_parts().1).unwrap())
}

#[test]
fn a_recording_is_a_device() {
    let (got, text) = recorded();
    assert!(text.starts_with("esp-trace 1 sim://test\n0 lines 0 1\n0 sleep 100000\n100000 lines 1 0\n"), "{text}");
    let trace = Trace::parse(&text).unwrap();
    let mut replay = Replay::new(trace.clone());
    assert_eq!(client(&mut replay, b"hello\xff").unwrap(), got);
    assert!(replay.is_done());

    // A client that differs is told where.
    let error = client(&mut Replay::new(trace.clone()), b"hellO\xff").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("another byte at 4"), "{error}");
    let mut replay = Replay::new(trace);
    let error = replay.set_lines(true, true).unwrap_err();
    assert!(error.to_string().contains("rts: true"), "{error}");
}

#[test]
fn bytes_come_when_they_came() {
    let text = "esp-trace 1 x\n1000 < 41\n5000 < 42\n6000 ! NotConnected gone\n";
    let mut replay = Replay::new(Trace::parse(text).unwrap());
    let mut buf = [0; 4];
    assert_eq!(replay.read(&mut buf, Duration::from_micros(999)).unwrap(), 0);
    assert_eq!(replay.read(&mut buf, Duration::from_micros(1)).unwrap(), 1);
    assert_eq!(replay.read(&mut buf, Duration::from_millis(1)).unwrap(), 0);
    assert_eq!(replay.now(), Duration::from_millis(2));
    assert_eq!(replay.read(&mut buf, Duration::from_secs(1)).unwrap(), 1);
    assert_eq!(replay.now(), Duration::from_millis(5));
    assert_eq!(replay.read(&mut buf, Duration::from_secs(1)).unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_full_disk_does_not_stop_the_line() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let got = client(&mut Traced::new(Device::default(), Full), b"hello").unwrap();
    assert_eq!(got.len(), 5);
}
