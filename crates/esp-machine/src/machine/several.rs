//! Several cores: the second one starts and stops, and one that idles keeps up with the other.

use super::Machine;
use crate::device::CoreRequest;

impl Machine {
    /// Up to which cycle the only core that does something stays the only one; 0 when there are several.
    pub(super) fn alone_until(&mut self) -> u64 {
        let Self { soc, cores, running, .. } = self;
        let (mut awake, mut until) = (0, u64::MAX);
        for (core, _) in cores.iter_mut().zip(running).filter(|(_, running)| **running) {
            let core = core.get_mut();
            if core.stays_idle(soc) {
                until = until.min(core.next_timer().map_or(u64::MAX, |timer| core.cycles().saturating_add(timer)));
            } else {
                awake += 1;
            }
        }
        if awake > 1 { 0 } else { until }
    }

    /// A core that idles while another works is as far as that one.
    pub(super) fn align(&mut self) {
        let furthest = self.cores.iter().map(|core| core.get().cycles()).max().unwrap_or(0);
        for core in self.cores.iter_mut().filter(|core| core.get().idles()) {
            let behind = furthest.saturating_sub(core.get().cycles());
            core.get_mut().skip(behind);
        }
    }

    /// The first core has let the second one go, or holds it.
    pub(super) fn release_second_core(&mut self) {
        let Some(request) = self.soc.shared.second_core.take() else { return };
        let cycles = self.cycles();
        if let (Some(core), Some(running)) = (self.cores.get_mut(1), self.running.get_mut(1)) {
            let core = core.get_mut();
            let behind = cycles.saturating_sub(core.cycles());
            core.skip(behind);
            if let CoreRequest::Start(entry) = request {
                // Its cycle counter begins here.
                core.reset(entry);
            }
            *running = request != CoreRequest::Halt;
        }
    }
}
