//! The ROM's `ets_printf`: `%d %i %u %x %X %p %c %s %%`, with width and zeros.

use crate::machine::Machine;

/// Longest text that is followed in memory.
const LONGEST: u32 = 4096;

/// What is printed: the format's address, then its arguments.
pub fn format(machine: &mut Machine, arguments: &[u32]) -> String {
    let Some((&format, rest)) = arguments.split_first() else { return String::new() };
    let mut arguments = rest.iter().copied();
    let mut out = String::new();
    let text = text(machine, format);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let (mut width, mut zeros) = (0usize, false);
        let kind = loop {
            match chars.next() {
                Some('0') if width == 0 => zeros = true,
                Some(digit @ '0'..='9') => width = (width * 10 + digit as usize - '0' as usize).min(64),
                Some('l' | '-') => {}
                other => break other,
            }
        };
        let mut next = || arguments.next().unwrap_or(0);
        let value = match kind {
            Some('d' | 'i') => (next() as i32).to_string(),
            Some('u') => next().to_string(),
            Some('x' | 'p') => format!("{:x}", next()),
            Some('X') => format!("{:X}", next()),
            Some('c') => char::from(next() as u8).to_string(),
            Some('s') => self::text(machine, next()),
            Some(other) => other.to_string(),
            None => break,
        };
        let missing = width.saturating_sub(value.chars().count());
        out.extend(std::iter::repeat_n(if zeros { '0' } else { ' ' }, missing));
        out.push_str(&value);
    }
    out
}

/// A text that ends with a zero byte.
fn text(machine: &mut Machine, address: u32) -> String {
    let bytes = (0..LONGEST).map(|at| machine.load(address.wrapping_add(at), 1) as u8);
    bytes.take_while(|byte| *byte != 0).map(char::from).collect()
}
