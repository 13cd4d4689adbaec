//! GDB's remote protocol, without a line: bytes of the debugger in, bytes for it out.
//!
//! Threads are cores: thread 1 is core 0. Registers are numbered as Espressif's GDB does ([`crate::cpu::Cpu::register`]).
//! A debugger that leaves without a word (the line closes) leaves all as it is, breakpoints included; `detach` lets the
//! machine go on without them.

use std::convert::Infallible;

use gdbstub::common::{Signal, Tid};
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{GdbStub, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;

use crate::debugger::Why;
use crate::firmware::Engine;

mod monitor;
mod registers;
mod target;

/// Longest packet.
const PACKET: usize = 0x4000;

/// One debugger's session.
pub struct Session {
    /// `None` when it is over.
    state: Option<GdbStubStateMachine<'static, Engine, Outgoing>>,
}

/// Bytes for the debugger.
#[derive(Debug, Default)]
struct Outgoing(Vec<u8>);

impl Connection for Outgoing {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        self.0.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Session {
    /// A debugger connects: the machine stands still.
    pub fn new(engine: &mut Engine) -> Self {
        engine.halt();
        let stub = GdbStub::builder(Outgoing::default()).packet_buffer_size(PACKET).build().ok();
        Self { state: stub.and_then(|stub| stub.run_state_machine(engine).ok()) }
    }

    /// The debugger has ended the session.
    pub fn is_over(&self) -> bool {
        self.state.is_none()
    }

    /// Bytes of the debugger; what it is answered.
    pub fn receive(&mut self, engine: &mut Engine, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for byte in bytes {
            let next = match self.state.take() {
                Some(GdbStubStateMachine::Idle(state)) => state.incoming_data(engine, *byte),
                Some(GdbStubStateMachine::Running(state)) => state.incoming_data(engine, *byte),
                other => {
                    self.state = other;
                    break;
                }
            };
            self.state = next.ok();
            self.settle(engine, &mut answer);
        }
        answer
    }

    /// The machine has run on: what there is to tell the debugger.
    pub fn poll(&mut self, engine: &mut Engine) -> Vec<u8> {
        let mut answer = Vec::new();
        self.settle(engine, &mut answer);
        answer
    }

    fn settle(&mut self, engine: &mut Engine, answer: &mut Vec<u8>) {
        loop {
            let next = match self.state.take() {
                Some(GdbStubStateMachine::Running(mut state)) => {
                    answer.append(&mut state.borrow_conn().0);
                    match engine.halted() {
                        Some(why) => state.report_stop(engine, reason(why, engine)),
                        None => {
                            self.state = Some(state.into());
                            return;
                        }
                    }
                }
                Some(GdbStubStateMachine::CtrlCInterrupt(state)) => {
                    engine.halt();
                    let stop = Some(reason(Why::Asked, engine));
                    state.interrupt_handled(engine, stop)
                }
                Some(GdbStubStateMachine::Disconnected(mut state)) => {
                    answer.append(&mut state.borrow_conn().0);
                    engine.detach();
                    return;
                }
                Some(GdbStubStateMachine::Idle(mut state)) => {
                    answer.append(&mut state.borrow_conn().0);
                    self.state = Some(state.into());
                    return;
                }
                None => return,
            };
            self.state = next.ok();
        }
    }
}

/// A core as GDB's thread.
fn thread(core: usize) -> Tid {
    Tid::new(core + 1).unwrap_or(Tid::MIN)
}

fn reason(why: Why, engine: &Engine) -> MultiThreadStopReason<u32> {
    let signal = |core: usize, signal| MultiThreadStopReason::SignalWithThread { tid: thread(core), signal };
    match why {
        Why::Asked => signal(0, Signal::SIGINT),
        Why::Step { core } => signal(core, Signal::SIGTRAP),
        Why::Until => signal(0, Signal::SIGTRAP),
        Why::Breakpoint { core } => {
            let pc = engine.machine.cores.get(core).map_or(0, |core| core.get().pc());
            let hardware = engine.control.breakpoints.iter().any(|(address, hardware)| *address == pc && *hardware);
            if hardware {
                MultiThreadStopReason::HwBreak(thread(core))
            } else {
                MultiThreadStopReason::SwBreak(thread(core))
            }
        }
        Why::Watch { core, watch, .. } => MultiThreadStopReason::Watch {
            tid: thread(core),
            kind: kind(watch.reads, watch.writes),
            addr: watch.address,
        },
    }
}

fn kind(reads: bool, writes: bool) -> WatchKind {
    match (reads, writes) {
        (true, true) => WatchKind::ReadWrite,
        (true, false) => WatchKind::Read,
        (false, _) => WatchKind::Write,
    }
}
