//! How blocks are protected against errors: 3/4 coding (ESP32) and Reed-Solomon (44, 32).
//!
//! Sources: technical reference manuals, chapter "eFuse Controller".

/// Data bytes of a Reed-Solomon block.
pub const RS_DATA: usize = 32;
/// Check symbols of a Reed-Solomon block.
pub const RS_CHECK: usize = 12;
/// Bytes of a whole Reed-Solomon code word.
pub const RS_CODE: usize = RS_DATA + RS_CHECK;

/// Data bytes of one group in 3/4 coding; two check bytes follow.
const GROUP: usize = 6;

/// GF(2⁸) with the polynomial x⁸ + x⁴ + x³ + x² + 1 and the generator 2.
struct Field {
    exp: [u8; 512],
    log: [u8; 256],
}

const fn field() -> Field {
    let mut field = Field { exp: [0; 512], log: [0; 256] };
    let mut value = 1u16;
    let mut power = 0;
    while power < 255 {
        field.exp[power] = value as u8;
        field.exp[power + 255] = value as u8;
        field.log[value as usize] = power as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= 0x11d;
        }
        power += 1;
    }
    field
}

static FIELD: Field = field();

fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    let log = |value: u8| usize::from(FIELD.log[usize::from(value)]);
    FIELD.exp[log(a) + log(b)]
}

/// `generator^power`.
fn power(power: usize) -> u8 {
    FIELD.exp[power % 255]
}

fn invert(value: u8) -> u8 {
    FIELD.exp[255 - usize::from(FIELD.log[usize::from(value)])]
}

/// The product over `x − 2^i` for i in 0..12, highest power first, without the leading 1.
fn generator() -> [u8; RS_CHECK] {
    let mut poly = [0; RS_CHECK + 1];
    poly[0] = 1;
    for root in 0..RS_CHECK {
        for place in (1..=root + 1).rev() {
            poly[place] ^= multiply(poly[place - 1], power(root));
        }
    }
    let mut out = [0; RS_CHECK];
    out.copy_from_slice(&poly[1..]);
    out
}

/// Check symbols for a block's 32 bytes.
pub fn rs_check(data: &[u8; RS_DATA]) -> [u8; RS_CHECK] {
    let generator = generator();
    let mut rest = [0; RS_CHECK];
    for byte in data {
        let factor = byte ^ rest[0];
        rest.rotate_left(1);
        rest[RS_CHECK - 1] = 0;
        rest.iter_mut().zip(generator).for_each(|(to, from)| *to ^= multiply(factor, from));
    }
    rest
}

/// A code word that cannot be corrected: more than six bytes are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than six bytes of the block are wrong")]
pub struct Uncorrectable;

/// Corrects up to six wrong bytes of a code word. Returns the data and how many bytes were wrong.
pub fn rs_decode(code: &[u8; RS_CODE]) -> Result<([u8; RS_DATA], usize), Uncorrectable> {
    let mut word = *code;
    let syndromes = syndromes(&word);
    let mut wrong = 0;
    if syndromes.iter().any(|syndrome| *syndrome != 0) {
        let locator = locator(&syndromes)?;
        let positions = error_positions(&locator)?;
        correct(&mut word, &syndromes, &locator, &positions);
        wrong = positions.len();
        if self::syndromes(&word).iter().any(|syndrome| *syndrome != 0) {
            return Err(Uncorrectable);
        }
    }
    let mut data = [0; RS_DATA];
    data.copy_from_slice(&word[..RS_DATA]);
    Ok((data, wrong))
}

/// The code word's polynomial at the generator's roots; all 0 when it has no error.
fn syndromes(word: &[u8; RS_CODE]) -> [u8; RS_CHECK] {
    let at = |root: usize| word.iter().fold(0, |sum, byte| multiply(sum, power(root)) ^ byte);
    std::array::from_fn(at)
}

/// Berlekamp and Massey: the polynomial, lowest power first, whose roots are the inverse error positions.
fn locator(syndromes: &[u8; RS_CHECK]) -> Result<Vec<u8>, Uncorrectable> {
    let (mut current, mut previous) = (vec![1u8], vec![1u8]);
    let (mut errors, mut gap, mut last) = (0, 1, 1u8);
    for step in 0..RS_CHECK {
        let mut delta = syndromes[step];
        for (place, factor) in current.iter().enumerate().take(errors + 1).skip(1) {
            delta ^= multiply(*factor, syndromes[step - place]);
        }
        if delta == 0 {
            gap += 1;
            continue;
        }
        let before = current.clone();
        let factor = multiply(delta, invert(last));
        current.resize(current.len().max(previous.len() + gap), 0);
        for (place, value) in previous.iter().enumerate() {
            current[place + gap] ^= multiply(factor, *value);
        }
        if 2 * errors <= step {
            errors = step + 1 - errors;
            (previous, last, gap) = (before, delta, 1);
        } else {
            gap += 1;
        }
    }
    current.truncate(errors + 1);
    if errors > RS_CHECK / 2 { Err(Uncorrectable) } else { Ok(current) }
}

/// Powers of x (0 is the last byte) at which the word is wrong.
fn error_positions(locator: &[u8]) -> Result<Vec<usize>, Uncorrectable> {
    let at = |x: u8| locator.iter().rev().fold(0, |sum, factor| multiply(sum, x) ^ factor);
    let found: Vec<_> = (0..RS_CODE).filter(|place| at(power(255 - place)) == 0).collect();
    if found.len() + 1 == locator.len() { Ok(found) } else { Err(Uncorrectable) }
}

/// Forney: the size of each error.
fn correct(word: &mut [u8; RS_CODE], syndromes: &[u8; RS_CHECK], locator: &[u8], positions: &[usize]) {
    let mut evaluator = [0; RS_CHECK];
    for (place, syndrome) in syndromes.iter().enumerate() {
        for (power, factor) in locator.iter().enumerate().take(RS_CHECK - place) {
            evaluator[place + power] ^= multiply(*syndrome, *factor);
        }
    }
    for position in positions {
        let inverse = power(255 - position);
        let value = evaluator.iter().rev().fold(0, |sum, factor| multiply(sum, inverse) ^ factor);
        // The formal derivative keeps the odd powers only.
        let slope = locator.iter().enumerate().skip(1).step_by(2).fold(0, |sum, (place, factor)| {
            let mut term = *factor;
            (1..place).for_each(|_| term = multiply(term, inverse));
            sum ^ term
        });
        if slope != 0 {
            word[RS_CODE - 1 - position] ^= multiply(power(*position), multiply(value, invert(slope)));
        }
    }
}

/// The bytes that are programmed for data in 3/4 coding: each six bytes are followed by their XOR and by the sum of
/// their bit counts, weighted by place.
pub fn encode_34(data: &[u8]) -> Vec<u8> {
    data.chunks(GROUP).flat_map(|group| group.iter().copied().chain(check_34(group))).collect()
}

/// The data in 3/4 coded bytes; false where a group's check bytes do not fit.
pub fn decode_34(code: &[u8]) -> (Vec<u8>, bool) {
    let groups = code.chunks(GROUP + 2);
    let fits = groups.clone().all(|group| group.get(GROUP..) == Some(&check_34(&group[..GROUP.min(group.len())])));
    (groups.flat_map(|group| group.iter().copied().take(GROUP)).collect(), fits)
}

fn check_34(group: &[u8]) -> [u8; 2] {
    let xor = group.iter().fold(0, |sum, byte| sum ^ byte);
    let weighted = group.iter().zip(1u8..).map(|(byte, place)| place * byte.count_ones() as u8).sum();
    [xor, weighted]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_wrong_bytes_are_corrected_and_seven_are_not_taken_for_right() {
        let data: [u8; RS_DATA] = std::array::from_fn(|place| (place * 37 + 11) as u8);
        let mut code = [0; RS_CODE];
        code[..RS_DATA].copy_from_slice(&data);
        code[RS_DATA..].copy_from_slice(&rs_check(&data));
        assert_eq!(rs_decode(&code), Ok((data, 0)));
        for wrong in 1..=6 {
            let mut damaged = code;
            (0..wrong).for_each(|error| damaged[error * 7] ^= 0x5a + error as u8);
            assert_eq!(rs_decode(&damaged), Ok((data, wrong)));
        }
        let mut damaged = code;
        (0..9).for_each(|error| damaged[error * 4] ^= 0x33 + error as u8);
        assert_ne!(rs_decode(&damaged).map(|(data, _)| data), Ok(data));
    }

    #[test]
    fn coding_34_finds_a_flipped_bit() {
        let data: Vec<u8> = (0..24).map(|place| place * 9).collect();
        let mut code = encode_34(&data);
        assert_eq!(code.len(), 32);
        assert_eq!(decode_34(&code), (data, true));
        code[3] ^= 4;
        assert!(!decode_34(&code).1);
        assert_eq!(decode_34(&[0; 32]), (vec![0; 24], true));
    }
}
