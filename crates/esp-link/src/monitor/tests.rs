use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;

/// A device in virtual time: what it sends when, and what happens on its lines.
#[derive(Default, Clone)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Duration,
    /// Bytes and the time they come.
    input: VecDeque<(Duration, Vec<u8>)>,
    /// What a released EN brings, relative to that moment.
    boot: Vec<(Duration, Vec<u8>)>,
    in_reset: bool,
    written: Vec<u8>,
    /// Away from the bus until this time.
    away: Option<Duration>,
    /// Leaves at this time, for so long.
    leaves: Option<(Duration, Duration)>,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Port for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().written.extend(bytes);
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        if let Some((when, length)) = state.leaves.filter(|(when, _)| *when <= state.now) {
            state.leaves = None;
            state.away = Some(when + length);
        }
        if state.away.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let end = state.now + wait;
        match state.input.front().map(|(at, _)| *at).filter(|at| *at <= end) {
            Some(at) => {
                state.now = state.now.max(at);
                let (_, mut bytes) = state.input.pop_front().unwrap();
                let n = bytes.len().min(buf.len());
                let rest = bytes.split_off(n);
                if !rest.is_empty() {
                    state.input.push_front((at, rest));
                }
                buf[..n].copy_from_slice(&bytes);
                Ok(n)
            }
            None => {
                state.now = end;
                Ok(0)
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if rts && !dtr {
            state.in_reset = true;
            state.input.clear();
        } else if !rts && state.in_reset {
            state.in_reset = false;
            let now = state.now;
            let boot: Vec<_> = state.boot.iter().map(|(at, bytes)| (now + *at, bytes.clone())).collect();
            state.input.extend(boot);
        }
        Ok(())
    }

    fn set_baud(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn baud(&self) -> u32 {
        115_200
    }

    fn sleep(&mut self, time: Duration) {
        self.0.lock().unwrap().now += time;
    }

    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn info(&self) -> PortInfo {
        PortInfo::default()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.away.is_some_and(|until| until > state.now) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.away = None;
        Ok(())
    }
}

fn script(input: &[(u64, &str)]) -> Script {
    let script = Script::default();
    script.0.lock().unwrap().input = input.iter().map(|(at, text)| (ms(*at), text.as_bytes().to_vec())).collect();
    script
}

fn run(port: &mut dyn Port, options: &CaptureOptions) -> (Capture, String) {
    let mut text = Vec::new();
    let capture = capture(port, options, &Job::new(), &mut |_, bytes| {
        text.extend_from_slice(bytes);
        true
    });
    (capture.unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn time_bytes_silence_and_patterns_end_it() {
    let input = [(10, "boot\r\n"), (200, "rea"), (210, "dy>"), (900, "late")];
    let time = CaptureOptions { time: Some(ms(100)), ..CaptureOptions::default() };
    let (capture, text) = run(&mut script(&input), &time);
    assert_eq!((capture.stopped, text.as_str()), (Stopped::Time, "boot\r\n"));
    assert_eq!((capture.elapsed, capture.first_byte), (ms(100), Some(ms(10))));

    let bytes = CaptureOptions { bytes: Some(7), ..CaptureOptions::default() };
    let (capture, text) = run(&mut script(&input), &bytes);
    assert_eq!((capture.stopped, capture.bytes, text.as_str()), (Stopped::Bytes, 7, "boot\r\nr"));

    let silence = CaptureOptions { silence: Some(ms(300)), ..CaptureOptions::default() };
    let (capture, _) = run(&mut script(&input), &silence);
    assert_eq!((capture.stopped, capture.elapsed), (Stopped::Silence, ms(510)));

    let until = CaptureOptions { until: vec![Pattern::regex("^read.>").unwrap()], ..CaptureOptions::default() };
    let (capture, _) = run(&mut script(&input), &until);
    assert_eq!(capture.stopped, Stopped::Pattern { pattern: "^read.>".into(), matched: b"ready>".to_vec() });
    assert!(capture.elapsed < ms(211), "{:?}", capture.elapsed);
}

#[test]
fn a_reset_keeps_the_first_byte_and_drops_the_old_run() {
    let mut port = script(&[(0, "old"), (50, "older")]);
    port.0.lock().unwrap().boot = vec![(ms(0), b"ets".to_vec()), (ms(90), b" Jun\n".to_vec())];
    let options =
        CaptureOptions { reset: Some(Sequence::hard_reset(true)), time: Some(ms(1000)), ..CaptureOptions::default() };
    let (capture, text) = run(&mut port, &options);
    assert_eq!(text, "ets Jun\n");
    assert_eq!(capture.dropped_before_reset, 3);
}

#[test]
fn text_is_sent_at_once_later_and_on_a_prompt() {
    let mut port = script(&[(100, "login: "), (300, "$ ")]);
    let send = vec![
        (SendWhen::Start, b"a".to_vec()),
        (SendWhen::After(ms(250)), b"c".to_vec()),
        (SendWhen::Seen(Pattern::literal("login: ").unwrap()), b"b".to_vec()),
    ];
    let options = CaptureOptions { send, time: Some(ms(400)), ..CaptureOptions::default() };
    let (capture, _) = run(&mut port, &options);
    assert_eq!((capture.sent, port.0.lock().unwrap().written.as_slice()), (3, b"abc".as_slice()));
}

#[test]
fn a_device_that_leaves_and_returns_is_followed() {
    let mut port = script(&[(10, "one "), (700, "two")]);
    port.0.lock().unwrap().leaves = Some((ms(100), ms(500)));
    let options =
        CaptureOptions { time: Some(ms(1000)), absence: Duration::from_secs(10), ..CaptureOptions::default() };
    let (capture, text) = run(&mut port, &options);
    assert_eq!((capture.returns, text.as_str()), (1, "one two"));

    let mut port = script(&[]);
    port.0.lock().unwrap().leaves = Some((ms(100), ms(60_000)));
    let (capture, _) = run(&mut port, &CaptureOptions { absence: ms(2000), ..CaptureOptions::default() });
    assert!(matches!(capture.stopped, Stopped::Gone(_)));
}

#[test]
fn a_cancelled_job_ends_it() {
    let job = Job::new();
    job.cancel();
    let capture = capture(&mut script(&[]), &CaptureOptions::default(), &job, &mut |_, _| true).unwrap();
    assert_eq!(capture.stopped, Stopped::Cancelled);
}

#[test]
fn every_reader_of_a_shared_port_sees_every_byte() {
    let shared = SharedPort::new(Box::new(script(&[(5, "hello "), (10, "world")])));
    let (mut first, mut second) = (shared.reader(), shared.reader());
    let options = CaptureOptions { time: Some(ms(50)), ..CaptureOptions::default() };
    assert_eq!(run(&mut first, &options).1, "hello world");
    assert_eq!(run(&mut second, &options).1, "hello world");
    assert_eq!(run(&mut shared.reader(), &options).1, "");
    assert_eq!((first.lost(), shared.users()), (0, 2));
}

#[test]
fn patterns_that_cannot_work_are_refused() {
    for text in ["", "a*", "(", "(a{1000}){1000}"] {
        assert!(Pattern::regex(text).is_err(), "{text}");
    }
    assert!(Pattern::literal("a*").is_ok());
}

#[cfg(unix)]
mod pty {
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::port::pty::PtyMaster;
    use crate::port::{OpenOptions, PortUrl, open};

    fn near(master: &PtyMaster) -> Box<dyn Port> {
        let url: PortUrl = master.path().to_string_lossy().parse().unwrap();
        open(&url, &OpenOptions { baud: 2_000_000, locks: None, ..OpenOptions::default() }).unwrap()
    }

    /// A megabyte paced as a 2 Mbaud line would send it (200,000 bytes a second), in bursts of 2 ms.
    fn send_megabyte(mut master: PtyMaster) {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let begin = Instant::now();
        for (i, piece) in bytes.chunks(400).enumerate() {
            let due = Duration::from_millis(2) * i as u32;
            if let Some(early) = due.checked_sub(begin.elapsed()) {
                thread::sleep(early);
            }
            master.write(piece, Duration::from_secs(5)).unwrap();
        }
        // The far end must not close before all is read.
        thread::sleep(Duration::from_millis(500));
    }

    #[test]
    fn a_megabyte_at_two_megabaud_arrives_whole_at_two_captures() {
        let master = PtyMaster::new().unwrap();
        let shared = SharedPort::new(near(&master));
        let captures: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = shared.reader();
                thread::spawn(move || {
                    let mut sum = Vec::new();
                    let options = CaptureOptions {
                        bytes: Some(1_000_000),
                        time: Some(Duration::from_secs(60)),
                        ..CaptureOptions::default()
                    };
                    let result = capture(&mut reader, &options, &Job::new(), &mut |_, bytes| {
                        sum.extend_from_slice(bytes);
                        true
                    });
                    (result.unwrap().stopped, sum)
                })
            })
            .collect();
        let sender = thread::spawn(move || send_megabyte(master));
        for capture in captures {
            let (stopped, bytes) = capture.join().unwrap();
            assert_eq!((stopped, bytes.len()), (Stopped::Bytes, 1_000_000));
            assert!((0u32..).zip(&bytes).all(|(i, byte)| *byte == (i % 251) as u8));
        }
        sender.join().unwrap();
    }

    #[test]
    fn a_pattern_stops_within_fifty_milliseconds() {
        let mut master = PtyMaster::new().unwrap();
        let mut port = near(&master);
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            master.write(b"noise\r\nsystem rea", Duration::from_secs(5)).unwrap();
            thread::sleep(Duration::from_millis(30));
            let at = Instant::now();
            master.write(b"dy\r\n", Duration::from_secs(5)).unwrap();
            thread::sleep(Duration::from_millis(300));
            at
        });
        let options = CaptureOptions {
            until: vec![Pattern::literal("system ready").unwrap()],
            time: Some(Duration::from_secs(20)),
            ..CaptureOptions::default()
        };
        let result = capture(port.as_mut(), &options, &Job::new(), &mut |_, _| true).unwrap();
        let stopped = Instant::now();
        assert!(matches!(result.stopped, Stopped::Pattern { .. }), "{result:?}");
        let late = stopped.duration_since(sender.join().unwrap());
        assert!(late < Duration::from_millis(50), "{late:?}");
    }
}
