//! Which flash mode, frequency and size a bootloader's header should name, judged by what the part says of itself.

use serde::Serialize;

use crate::chip::Chip;
use crate::image::{FlashMode, Header};

/// What is known of the part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Size in bytes by the JEDEC id.
    pub jedec_size: Option<u64>,
    /// Size in bytes by the SFDP table.
    pub sfdp_size: Option<u64>,
    /// Reads that the SFDP table names: `1-1-4` …; `None` without a table.
    pub reads: Option<Vec<&'static str>>,
    /// Four data lines are switched on in the status registers; `None` where that cannot be seen.
    pub quad_enable: Option<bool>,
    /// The part needs no switch for four data lines.
    pub quad_always: bool,
}

/// How much depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The device does not start, or fails later, as it is.
    Required,
    /// Nothing speaks against it, and it is better.
    Recommended,
    /// It may be better; what decides cannot be seen from here.
    Possible,
}

/// A setting of the header that could be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// `flash_mode`, `flash_freq` or `flash_size`.
    pub setting: &'static str,
    /// What the header says.
    pub now: String,
    /// What it should say.
    pub better: String,
    /// How much depends on it.
    pub weight: Weight,
    /// Why.
    pub reason: String,
}

impl Part {
    fn reads(&self, lines: &str) -> Option<bool> {
        self.reads.as_ref().map(|reads| reads.contains(&lines))
    }

    /// The size in bytes, the smaller where two ways contradict each other.
    pub fn size(&self) -> Option<u64> {
        [self.jedec_size, self.sfdp_size].into_iter().flatten().min()
    }
}

/// All advice for a header of this chip on this part, the most important first.
pub fn advise(chip: &Chip, header: &Header, part: &Part) -> Vec<Advice> {
    let mut advice: Vec<Advice> =
        [size(chip, header, part), mode(header, part), frequency(chip, header)].into_iter().flatten().collect();
    advice.sort_by_key(|advice| advice.weight as u8);
    advice
}

fn size(chip: &Chip, header: &Header, part: &Part) -> Option<Advice> {
    let real = part.size()?;
    let spelled = |bytes: u64| match bytes {
        0..0x10_0000 => format!("{}KB", bytes >> 10),
        _ => format!("{}MB", bytes >> 20),
    };
    let better = spelled(real);
    if !chip.flash.sizes.contains_key(&better) {
        return None;
    }
    let now = header.size_name(chip).unwrap_or("unknown").to_owned();
    if now == better {
        return None;
    }
    let named = size_bytes(&now);
    let (weight, reason) = match named {
        Some(named) if named < real => {
            (Weight::Recommended, format!("the part has {better}; an app sees only {now} of it"))
        }
        Some(_) => {
            (Weight::Required, format!("the part has {better} only: the bootloader refuses a header that names more"))
        }
        None => (Weight::Required, "the header's size code means nothing to this chip".to_owned()),
    };
    Some(Advice { setting: "flash_size", now, better, weight, reason })
}

/// Bytes of a size as headers spell it: `512KB`, `4MB`.
fn size_bytes(name: &str) -> Option<u64> {
    let (digits, shift) = match name.strip_suffix("MB") {
        Some(digits) => (digits, 20),
        None => (name.strip_suffix("KB")?, 10),
    };
    digits.parse::<u64>().ok().map(|number| number << shift)
}

fn mode(header: &Header, part: &Part) -> Option<Advice> {
    let advice = |better: FlashMode, weight, reason: &str| {
        let now = header.mode().map_or_else(|| format!("{:#x}", header.flash_mode), |mode| mode.name().to_owned());
        Some(Advice { setting: "flash_mode", now, better: better.name().into(), weight, reason: reason.into() })
    };
    let quad_ready = part.quad_always || part.quad_enable == Some(true);
    let Some(mode) = header.mode() else {
        return advice(FlashMode::Dio, Weight::Required, "the header's mode code means nothing");
    };
    match mode {
        FlashMode::Qio | FlashMode::Qout if part.quad_enable == Some(false) && !part.quad_always => {
            let reason = "the header wants four data lines, but the part has them switched off (QE = 0)";
            advice(FlashMode::Dio, Weight::Required, reason)
        }
        FlashMode::Qio if part.reads("1-4-4") == Some(false) && part.reads("1-1-4") == Some(true) => {
            advice(FlashMode::Qout, Weight::Required, "the part knows no read with address and data on four lines")
        }
        FlashMode::Qio | FlashMode::Qout
            if part.reads("1-1-4") == Some(false) && part.reads("1-4-4") == Some(false) =>
        {
            advice(FlashMode::Dio, Weight::Required, "the part knows no read on four lines")
        }
        FlashMode::Dout | FlashMode::Dio if quad_ready && part.reads("1-4-4") == Some(true) => {
            let reason = "the part has four data lines switched on (QE = 1) and a read that uses them; whether the board \
                          wires all four cannot be seen from here";
            advice(FlashMode::Qio, Weight::Possible, reason)
        }
        FlashMode::Dout if part.reads("1-2-2") == Some(true) => advice(
            FlashMode::Dio,
            Weight::Recommended,
            "the part takes the address on two lines too: the same wires, faster",
        ),
        _ => None,
    }
}

fn frequency(chip: &Chip, header: &Header) -> Option<Advice> {
    let number = |name: &str| name.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    let fastest = chip.flash.frequencies.keys().max_by_key(|name| number(name))?;
    let Some(now) = header.frequency_name(chip) else {
        let (now, better) = (format!("{:#x}", header.flash_size_freq & 0xf), chip.flash.default_frequency.clone());
        let reason = "the header's frequency code means nothing to this chip".to_owned();
        return Some(Advice { setting: "flash_freq", now, better, weight: Weight::Required, reason });
    };
    if number(now) >= number(fastest) {
        return None;
    }
    let reason =
        "no table of the part tells its highest frequency: see its data sheet and the board's wiring".to_owned();
    let (now, better) = (now.to_owned(), fastest.clone());
    Some(Advice { setting: "flash_freq", now, better, weight: Weight::Possible, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip;

    fn chip() -> &'static Chip {
        chip::all().iter().find(|chip| chip.flash.frequencies.contains_key("80m")).unwrap()
    }

    fn header(mode: FlashMode, size: &str) -> Header {
        let flash = &chip().flash;
        let code = flash.sizes[size] | flash.frequencies["80m"];
        Header { magic: 0xe9, segments: 1, flash_mode: mode as u8, flash_size_freq: code, entry: 0 }
    }

    fn part() -> Part {
        let reads = Some(vec!["1-1-2", "1-2-2", "1-1-4", "1-4-4"]);
        Part { jedec_size: Some(4 << 20), sfdp_size: Some(4 << 20), reads, quad_enable: Some(true), quad_always: false }
    }

    fn settings(header: &Header, part: &Part) -> Vec<(&'static str, String, Weight)> {
        let advice = advise(chip(), header, part);
        advice.into_iter().map(|advice| (advice.setting, advice.better, advice.weight)).collect()
    }

    #[test]
    fn what_fits_gets_no_advice() {
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &part()), []);
    }

    #[test]
    fn sizes_are_set_to_what_is_there() {
        let small = settings(&header(FlashMode::Qio, "2MB"), &part());
        assert_eq!(small, [("flash_size", "4MB".to_owned(), Weight::Recommended)]);
        let large = settings(&header(FlashMode::Qio, "8MB"), &part());
        assert_eq!(large, [("flash_size", "4MB".to_owned(), Weight::Required)]);
        let fake = Part { sfdp_size: Some(2 << 20), ..part() };
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &fake)[0].1, "2MB");
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &Part::default()), []);
    }

    #[test]
    fn quad_modes_need_the_quad_bit_and_its_reads() {
        let off = Part { quad_enable: Some(false), ..part() };
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &off)[0], ("flash_mode", "dio".into(), Weight::Required));
        let no_switch = Part { quad_always: true, ..off.clone() };
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &no_switch), []);
        assert_eq!(settings(&header(FlashMode::Dio, "4MB"), &off), []);
        assert_eq!(settings(&header(FlashMode::Dout, "4MB"), &off)[0].1, "dio");
        assert_eq!(
            settings(&header(FlashMode::Dio, "4MB"), &part())[0],
            ("flash_mode", "qio".into(), Weight::Possible)
        );
        let dual = Part { reads: Some(vec!["1-1-2"]), ..part() };
        assert_eq!(settings(&header(FlashMode::Qio, "4MB"), &dual)[0].1, "dio");
    }

    #[test]
    fn codes_without_meaning_are_named() {
        let broken = Header { flash_mode: 9, flash_size_freq: 0xe7, ..header(FlashMode::Dio, "4MB") };
        let found = settings(&broken, &part());
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|(_, _, weight)| *weight == Weight::Required));
    }
}
