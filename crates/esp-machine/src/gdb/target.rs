//! What the protocol's library asks of the machine.

use std::convert::Infallible;

use gdbstub::arch::Arch;
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::registers::{File, Number, Words, description, in_one_packet};
use super::{kind, monitor, thread};
use crate::cpu::Core;
use crate::firmware::Engine;
use crate::soc::Watch;

/// `EFAULT`: nothing answers there.
const NOTHING_THERE: u8 = 14;

impl Engine {
    fn core_of(&self, tid: Tid) -> TargetResult<&Core, Self> {
        self.machine.cores.get(tid.get() - 1).ok_or(TargetError::NonFatal)
    }

    fn core_mut(&mut self, tid: Tid) -> TargetResult<&mut Core, Self> {
        self.machine.cores.get_mut(tid.get() - 1).ok_or(TargetError::NonFatal)
    }

    fn is_riscv(&self) -> bool {
        matches!(self.machine.cores.first(), Some(Core::RiscV(_)))
    }

    fn change_breakpoint(&mut self, address: u32, hardware: bool, there: bool) -> bool {
        let mut breakpoints = self.control.breakpoints.clone();
        let known = breakpoints.len();
        breakpoints.retain(|breakpoint| *breakpoint != (address, hardware));
        let found = breakpoints.len() != known;
        if there {
            breakpoints.push((address, hardware));
        }
        self.set_breakpoints(breakpoints);
        there || found
    }
}

impl Target for Engine {
    type Arch = Words;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Words, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Engine {
    fn read_registers(&mut self, file: &mut File, tid: Tid) -> TargetResult<(), Self> {
        let count = in_one_packet(self.is_riscv());
        let core = self.core_of(tid)?.get();
        file.0 = (0..count).map(|number| core.register(number).unwrap_or(0)).collect();
        Ok(())
    }

    fn write_registers(&mut self, file: &File, tid: Tid) -> TargetResult<(), Self> {
        let core = self.core_mut(tid)?.get_mut();
        for (number, value) in file.0.iter().enumerate() {
            core.set_register(number, *value);
        }
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, address: u32, into: &mut [u8], _: Tid) -> TargetResult<usize, Self> {
        match self.read_memory(address, into) {
            0 if !into.is_empty() => Err(TargetError::Errno(NOTHING_THERE)),
            count => Ok(count),
        }
    }

    fn write_addrs(&mut self, address: u32, bytes: &[u8], _: Tid) -> TargetResult<(), Self> {
        if self.write_memory(address, bytes) { Ok(()) } else { Err(TargetError::Errno(NOTHING_THERE)) }
    }

    fn list_active_threads(&mut self, found: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        (0..self.machine.cores.len())
            .filter(|core| self.machine.is_running(*core))
            .for_each(|core| found(thread(core)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Engine {
    fn read_register(&mut self, tid: Tid, number: Number, into: &mut [u8]) -> TargetResult<usize, Self> {
        // No bytes: the register is not there, which GDB shows as `<unavailable>`.
        let Some(value) = self.core_of(tid)?.get().register(number.0) else { return Ok(0) };
        let bytes = value.to_le_bytes();
        into.get_mut(..bytes.len()).ok_or(TargetError::NonFatal)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(&mut self, tid: Tid, number: Number, bytes: &[u8]) -> TargetResult<(), Self> {
        let value = u32::from_le_bytes(bytes.try_into().map_err(|_| TargetError::NonFatal)?);
        if self.core_mut(tid)?.get_mut().set_register(number.0, value) { Ok(()) } else { Err(TargetError::NonFatal) }
    }
}

impl ThreadExtraInfo for Engine {
    fn thread_extra_info(&self, tid: Tid, into: &mut [u8]) -> Result<usize, Infallible> {
        let text = format!("core {}", tid.get() - 1);
        let count = text.len().min(into.len());
        into[..count].copy_from_slice(&text.as_bytes()[..count]);
        Ok(count)
    }
}

impl MultiThreadResume for Engine {
    fn resume(&mut self) -> Result<(), Infallible> {
        match self.control.stepped.take() {
            Some(core) => self.step(core),
            None => Self::resume(self),
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.control.stepped = None;
        Ok(())
    }

    // All cores go on together, whichever GDB names: they share their time.
    fn set_resume_action_continue(&mut self, _: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        Ok(())
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSchedulerLocking for Engine {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl MultiThreadSingleStep for Engine {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        self.control.stepped = Some(tid.get() - 1);
        Ok(())
    }
}

impl Breakpoints for Engine {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Engine {
    fn add_sw_breakpoint(&mut self, address: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.change_breakpoint(address, false, true))
    }

    fn remove_sw_breakpoint(&mut self, address: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.change_breakpoint(address, false, false))
    }
}

impl HwBreakpoint for Engine {
    fn add_hw_breakpoint(&mut self, address: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.change_breakpoint(address, true, true))
    }

    fn remove_hw_breakpoint(&mut self, address: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.change_breakpoint(address, true, false))
    }
}

impl HwWatchpoint for Engine {
    fn add_hw_watchpoint(&mut self, address: u32, length: u32, of: WatchKind) -> TargetResult<bool, Self> {
        let (reads, writes) = (of != WatchKind::Write, of != WatchKind::Read);
        let mut watches = self.control.watches.clone();
        watches.push(Watch { address, length, reads, writes });
        self.set_watches(watches);
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, address: u32, length: u32, of: WatchKind) -> TargetResult<bool, Self> {
        let mut watches = self.control.watches.clone();
        let is =
            |watch: &Watch| (watch.address, watch.length) == (address, length) && kind(watch.reads, watch.writes) == of;
        let found = watches.iter().position(is).map(|index| watches.remove(index)).is_some();
        self.set_watches(watches);
        Ok(found)
    }
}

impl MonitorCmd for Engine {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Infallible> {
        out.write_raw(monitor::carry_out(self, &String::from_utf8_lossy(command)).as_bytes());
        Ok(())
    }
}

impl TargetDescriptionXmlOverride for Engine {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        into: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let xml = description(self.is_riscv());
        let rest = usize::try_from(offset).ok().and_then(|offset| xml.as_bytes().get(offset..)).unwrap_or_default();
        let count = rest.len().min(length).min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// The library's types are what they are said to be.
const _: fn() = || {
    fn is_arch<T: Arch<Usize = u32>>() {}
    is_arch::<Words>();
};
