//! Registers, written and read as the processor would at this moment.

use esp_machine::Machine;

pub fn store(machine: &mut Machine, address: u32, value: u32) {
    machine.soc.cycle = machine.cycles();
    machine.soc.store(address, 4, value).unwrap();
}

pub fn load(machine: &mut Machine, address: u32) -> u32 {
    machine.soc.cycle = machine.cycles();
    machine.soc.load(address, 4).unwrap()
}
