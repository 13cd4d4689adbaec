//! What the flash part says of itself: id, status registers, SFDP, unique id.

use esp_link::flash::SpiCommand;
use esp_model::flash::advice::Part;
use esp_model::flash::jedec::JedecId;
use esp_model::flash::sfdp::{self, Basic, QuadEnable, Sfdp, SfdpError};
use esp_model::flash::status::{Family, Status};
use esp_model::job::Job;

use crate::error::ToolError;
use crate::session::device::Connected;

/// The status registers of a part.
pub struct Registers {
    /// Parts whose registers look alike.
    pub family: &'static Family,
    /// The maker is known to belong to them.
    pub known: bool,
    /// Opcode and value, register 1 first.
    pub values: Vec<(u8, u8)>,
    /// What they mean.
    pub status: Status,
}

/// Reads the status registers that parts of this maker have.
pub fn registers(connected: &mut Connected, job: &Job, id: JedecId) -> Result<Registers, ToolError> {
    let (family, known) = Family::of(id);
    let mut values = Vec::new();
    for opcode in family.opcodes() {
        let word = connected.loader.spi_command(job, SpiCommand::read(opcode, 8))?;
        values.push((opcode, word as u8));
    }
    let bytes: Vec<u8> = values.iter().map(|(_, value)| *value).collect();
    Ok(Registers { family, known, values, status: family.decode(&bytes) })
}

/// The part's unique id; `None` when it has none.
pub fn unique_id(connected: &mut Connected, job: &Job) -> Result<Option<Vec<u8>>, ToolError> {
    let id = connected.loader.spi_transfer(job, SpiCommand::unique_id())?;
    let absent = id.iter().all(|byte| *byte == 0xff) || id.iter().all(|byte| *byte == 0);
    Ok((!absent).then_some(id))
}

/// The SFDP area as far as its tables reach, and what it says.
pub struct Description {
    /// The bytes.
    pub area: Vec<u8>,
    /// The headers.
    pub sfdp: Sfdp,
    /// The basic table, or why there is none.
    pub basic: Result<Basic, SfdpError>,
}

/// Reads the SFDP area; `Err` inside: the part has none.
pub fn sfdp(connected: &mut Connected, job: &Job) -> Result<Result<Description, SfdpError>, ToolError> {
    let mut area = connected.loader.read_sfdp(job, 0, sfdp::HEADER + 8)?;
    let count = match sfdp::header_count(&area) {
        Ok(count) => count,
        Err(error) => return Ok(Err(error)),
    };
    extend(connected, job, &mut area, sfdp::HEADER + count * 8)?;
    let sfdp = match Sfdp::read(&area) {
        Ok(sfdp) => sfdp,
        Err(error) => return Ok(Err(error)),
    };
    extend(connected, job, &mut area, sfdp.length())?;
    let basic = sfdp.basic(&area);
    Ok(Ok(Description { area, sfdp, basic }))
}

fn extend(connected: &mut Connected, job: &Job, area: &mut Vec<u8>, length: usize) -> Result<(), ToolError> {
    let more = length.saturating_sub(area.len());
    let rest = connected.loader.read_sfdp(job, area.len() as u32, more)?;
    area.extend(rest);
    Ok(())
}

/// All of it, as advice wants it.
pub fn known(id: JedecId, registers: &Registers, description: Option<&Description>) -> Part {
    let basic = description.and_then(|description| description.basic.as_ref().ok());
    let quad = basic.and_then(Basic::quad_enable);
    let value = |register: u8| registers.values.get(usize::from(register) - 1).map(|(_, value)| *value);
    // The part's own word on where the bit stands goes before the maker's usual place.
    let own = quad.and_then(QuadEnable::place).and_then(|(register, bit)| Some(value(register)? >> bit & 1 == 1));
    Part {
        jedec_size: id.size().map(u64::from),
        sfdp_size: basic.and_then(Basic::size),
        reads: basic.map(|basic| basic.fast_reads().iter().map(|read| read.lines).collect()),
        quad_enable: own.or(registers.status.quad_enable),
        quad_always: quad == Some(QuadEnable::None),
    }
}
