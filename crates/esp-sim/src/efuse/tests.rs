//! Burning by registers, as clients do it.

use esp_model::chip::{self, Chip};
use esp_model::efuse::{Burn, Request};
use esp_model::mac::Mac;

use super::*;

fn chips() -> impl Iterator<Item = &'static Chip> {
    chip::all().iter().filter(|chip| chip.efuse().controller.is_some())
}

/// Carries out a burn by the controller's registers.
fn burn(efuse: &mut Efuse, requests: &[Request]) {
    let mut burn = Burn::new(efuse.visible.clone());
    requests.iter().for_each(|request| burn.add(request).unwrap());
    for step in burn.steps().unwrap() {
        let controller = efuse.table.controller.as_ref().unwrap();
        let block = efuse.table.block(step.block).unwrap();
        let (first, number) = match controller.style {
            ControllerStyle::PgmData => (controller.pgm_data.unwrap(), u32::from(step.block)),
            ControllerStyle::Esp32 => (block.write.unwrap(), 0),
        };
        for (index, word) in step.coded.iter().enumerate() {
            assert!(efuse.write(first + 4 * index as u32, *word));
        }
        assert!(efuse.write(controller.conf, controller.write_code));
        assert!(efuse.write(controller.cmd, PROGRAM | number << 2));
        assert!(efuse.write(controller.conf, controller.read_code));
        assert!(efuse.write(controller.cmd, READ));
        assert_eq!(efuse.read(controller.cmd), Some(0));
    }
}

fn set(name: &str, value: u8) -> Request {
    Request::Field { name: name.into(), value: vec![value] }
}

#[test]
fn burned_fields_appear_and_stay() {
    for chip in chips() {
        let mut efuse = Efuse::new(chip.efuse(), BTreeMap::new());
        let fields = efuse.table.fields.iter();
        let count = fields.clone().find(|field| field.block == 0 && field.len() == 3 && field.write_protect.is_some());
        let count = count.or(fields.clone().find(|field| field.write_protect.is_some_and(|bit| bit > 1))).unwrap();
        let count = count.name.as_str();
        burn(&mut efuse, &[set(count, 1), Request::CustomMac(Mac([2, 1, 2, 3, 4, 5]))]);
        assert_eq!((efuse.number(count), efuse.visible.errors.len()), (1, 0), "{}", chip.id);
        let words = efuse.visible.words.clone();
        efuse.reload();
        assert_eq!(efuse.visible.words, words);
        // Frozen bits do not change any more.
        burn(&mut efuse, &[Request::WriteProtect { name: count.into() }]);
        let controller = efuse.table.controller.as_ref().unwrap();
        let frozen = efuse.number(count);
        let first = controller.pgm_data.or(efuse.table.blocks[0].write).unwrap();
        (0..7).for_each(|index| assert!(efuse.write(first + index * 4, u32::MAX)));
        efuse.write(controller.conf, controller.write_code);
        efuse.write(controller.cmd, PROGRAM);
        assert_eq!(efuse.number(count), frozen, "{}", chip.id);
    }
}

#[test]
fn a_hidden_key_works_but_cannot_be_read() {
    for chip in chips() {
        let Some(block) = chip.efuse().blocks.iter().find(|block| block.is_key && !block.read_protect.is_empty())
        else {
            continue;
        };
        let mut efuse = Efuse::new(chip.efuse(), BTreeMap::new());
        let data = vec![0xa5; usize::from(block.words) * 4];
        burn(&mut efuse, &[Request::Block { block: block.name.clone(), data, offset: 0 }]);
        assert_eq!(efuse.read(block.read), Some(0xa5a5_a5a5));
        burn(&mut efuse, &[Request::ReadProtect { name: block.name.clone() }]);
        assert_eq!(efuse.read(block.read), Some(0), "{}", chip.id);
        assert_eq!(efuse.decoded().block(block.id)[0], 0xa5a5_a5a5);
    }
}

#[test]
fn a_coded_block_that_is_burned_twice_reports_errors() {
    for chip in chips() {
        let table = chip.efuse();
        let Some(block) =
            table.blocks.iter().find(|block| block.is_key && block.coding == esp_model::efuse::Coding::ReedSolomon)
        else {
            continue;
        };
        let mut efuse = Efuse::new(table, BTreeMap::new());
        for byte in [0x12, 0x7e] {
            let blank = Efuse::new(table, BTreeMap::new());
            let mut other = Burn::new(blank.visible.clone());
            other.add(&Request::Block { block: block.name.clone(), data: vec![byte; 32], offset: 0 }).unwrap();
            let step = &other.steps().unwrap()[0];
            let controller = table.controller.as_ref().unwrap();
            let first = controller.pgm_data.unwrap();
            step.coded.iter().enumerate().for_each(|(at, word)| assert!(efuse.write(first + 4 * at as u32, *word)));
            efuse.write(controller.conf, controller.write_code);
            efuse.write(controller.cmd, PROGRAM | u32::from(block.id) << 2);
            efuse.write(controller.conf, controller.read_code);
            efuse.write(controller.cmd, READ);
        }
        assert!(efuse.visible.errors.iter().any(|error| error.block == block.id && error.fail), "{}", chip.id);
        let errors = table.controller.as_ref().unwrap().errors.iter().find(|errors| errors.block == block.id).unwrap();
        assert_ne!(efuse.read(errors.count.register).unwrap(), 0);
    }
}

#[test]
fn three_quarters_coding_is_decoded() {
    let Some(chip) = chips().find(|chip| chip.efuse().field("CODING_SCHEME").is_some()) else { return };
    let mut efuse = Efuse::new(chip.efuse(), BTreeMap::new());
    burn(&mut efuse, &[set("CODING_SCHEME", 1)]);
    let key = Request::Block { block: "BLOCK1".into(), data: (1..=24).collect(), offset: 0 };
    burn(&mut efuse, &[key]);
    assert_eq!(efuse.visible.errors, []);
    assert_eq!(efuse.read(chip.efuse().blocks[1].read + 4), Some(0x0807_0605));
}

#[test]
fn an_image_survives() {
    for chip in chips() {
        let image: Vec<u8> = (0..400).map(|at| (at * 7) as u8).collect();
        let mut efuse = Efuse::new(chip.efuse(), BTreeMap::new());
        efuse.load(&image);
        let again = efuse.image();
        let mut other = Efuse::new(chip.efuse(), BTreeMap::new());
        other.load(&again);
        assert_eq!(other.image(), again);
    }
}
