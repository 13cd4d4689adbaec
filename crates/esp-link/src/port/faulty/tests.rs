use super::*;

/// A line that gives back what was written.
#[derive(Default)]
struct Loop {
    bytes: VecDeque<u8>,
    now: Duration,
}

impl Port for Loop {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend(bytes);
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.now += wait;
        }
        io::Read::read(&mut self.bytes, buf)
    }
    fn set_lines(&mut self, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn set_baud(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn baud(&self) -> u32 {
        115_200
    }
    fn sleep(&mut self, time: Duration) {
        self.now += time;
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn info(&self) -> PortInfo {
        PortInfo::default()
    }
}

fn pass(faults: Faults, bytes: &[u8]) -> (Vec<u8>, u64) {
    let mut port = Faulty::new(Loop::default(), faults);
    port.write(bytes).unwrap();
    let (mut got, mut buf) = (Vec::new(), [0; 7]);
    loop {
        match port.read(&mut buf, Duration::from_millis(1)).unwrap() {
            0 => return (got, port.made()),
            count => got.extend_from_slice(&buf[..count]),
        }
    }
}

#[test]
fn no_fault_changes_nothing() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(pass(Faults::default(), &bytes), (bytes.clone(), 0));
}

#[test]
fn makes_as_many_as_asked_and_the_same_again() {
    let bytes = vec![0; 100_000];
    let one = |drop, duplicate, corrupt| Faults { seed: 5, drop, duplicate, corrupt, ..Faults::default() };
    let (dropped, made) = pass(one(0.01, 0.0, 0.0), &bytes);
    assert_eq!(dropped.len() as u64, 100_000 - made);
    assert!((1800..2200).contains(&made), "{made} in both directions");
    let (doubled, made) = pass(one(0.0, 0.01, 0.0), &bytes);
    assert_eq!(doubled.len() as u64, 100_000 + made);
    let (changed, made) = pass(one(0.0, 0.0, 0.01), &bytes);
    let bits: u64 = changed.iter().map(|b| u64::from(b.count_ones())).sum();
    assert!(changed.len() == 100_000 && bits <= made && bits + 10 > made);
    let all = one(0.01, 0.01, 0.01);
    assert_eq!(pass(all.clone(), &bytes), pass(all.clone(), &bytes));
    assert_ne!(pass(Faults { seed: 6, ..all.clone() }, &bytes), pass(all, &bytes));
}

#[test]
fn a_stall_delays_and_loses_nothing() {
    let stalls = Faults { seed: 1, stall: 0.5, stall_for: Duration::from_secs(2), ..Faults::default() };
    let mut port = Faulty::new(Loop::default(), stalls);
    port.write(&[7; 1000]).unwrap();
    let (mut got, mut silences, mut buf) = (0, 0, [0; 100]);
    while got < 1000 {
        match port.read(&mut buf, Duration::from_secs(1)).unwrap() {
            0 => silences += 1,
            count => got += count,
        }
    }
    assert!(silences > 0 && port.now() >= Duration::from_secs(2));
}

#[test]
fn a_broken_line_stays_broken() {
    let mut port = Faulty::new(Loop::default(), Faults { disconnect_after: Some(10), ..Faults::default() });
    port.write(&[0; 10]).unwrap();
    assert_eq!(port.read(&mut [0; 4], Duration::ZERO).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(port.write(&[0]).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(port.reopen().unwrap_err().kind(), io::ErrorKind::NotConnected);
}
