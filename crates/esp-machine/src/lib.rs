//! Runs the firmware of Espressif chips: real mask ROM, real bootloader, real application, in virtual time.
//!
//! The crate is pure: no files, clock, threads or environment. The same inputs at the same virtual times give the same
//! events, byte for byte.
//!
//! # How it is put together
//!
//! - [`chip::Board`]: the machine as data (`chips/ID/machine.toml`, `chips/ID/registers.txt`).
//! - [`memory::Memory`]: one arena of 4 KB frames and a table from address to frame. A core uses `load32`, `store32` … of
//!   it directly (one look-up) and, when these say no, [`soc::Soc::load`] and [`soc::Soc::store`] (registers, flash pages
//!   not yet in the arena, accesses across pages), which answer `Err(Fault)` where nothing is.
//! - [`cpu::Cpu`]: what a core is. A new core is a type with this trait and a variant of [`cpu::Core`]. Code that was
//!   decoded is announced with [`memory::Memory::note_decoded`]; `Cpu::overwritten` hands back what was changed since.
//!   Interrupt lines: [`soc::Soc::lines`] (Xtensa: 32 lines of the matrix), [`soc::Soc::offered`] (RISC-V).
//! - [`device::Device`]: a block's behaviour, one type per IP; [`device::Ctx`] is all it can touch. It asks to be called at
//!   a time with `ctx.wake(time)` and drives interrupts with `ctx.shared.source(number, level)`. New types are listed in
//!   [`devices::make`] under the name that `ip` has in the data.
//! - [`machine::Machine`]: cores, chip and time; runs, resets, copies itself.
//!
//! A block without behaviour needs no code: its registers follow the generated file (reset value, writable bits,
//! write-1-clear), and `[[bits]]` in `machine.toml` says which bits read as something else.

pub mod chip;
pub mod cpu;
pub mod debugger;
pub mod device;
pub mod devices;
pub mod events;
pub mod firmware;
pub mod gdb;
pub mod i2c_bus;
pub mod interrupts;
pub mod machine;
pub mod memory;
pub mod mmu;
pub mod radio;
pub mod registers;
pub mod riscv;
pub mod rom;
pub mod security;
pub mod soc;
pub mod spi_bus;
pub mod stimuli;
pub mod waits;
pub mod xtensa;
pub mod xts;

pub use events::{Event, Input, What};
pub use machine::{Config, Machine, Stop};
