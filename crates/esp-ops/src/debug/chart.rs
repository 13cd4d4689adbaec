//! Edges of pins, PWM and resets of a virtual device as a timing chart (SVG) and for waveform viewers (VCD).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Since power-on, in picoseconds.
    pub time: u64,
    /// `gpio4`, `pwm0`, `reset`.
    pub name: String,
    /// The new level; what share of its period a PWM is high; the cause of a reset.
    pub value: f64,
}

/// What `monitor trace` says: a line for each, `TIME NAME VALUE`. Other lines are left out.
pub fn parse(text: &str) -> Vec<Edge> {
    let edge = |line: &str| {
        let mut words = line.split_whitespace();
        let (time, name, value) = (words.next()?, words.next()?, words.next()?);
        let value = value.parse().ok().filter(|value: &f64| value.is_finite())?;
        Some(Edge { time: time.parse().ok()?, name: name.to_owned(), value })
    };
    text.lines().filter_map(edge).collect()
}

/// Signals by name, those with a number in its order; resets last.
fn signals(edges: &[Edge]) -> Vec<(&str, Vec<&Edge>)> {
    let mut found: BTreeMap<(u32, &str), Vec<&Edge>> = BTreeMap::new();
    for edge in edges {
        let number = edge.name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(u32::MAX);
        found.entry((number, edge.name.as_str())).or_default().push(edge);
    }
    found.into_iter().map(|((_, name), edges)| (name, edges)).collect()
}

/// It has values between low and high.
fn is_share(name: &str) -> bool {
    name.starts_with("pwm")
}

/// A value change dump (IEEE 1364). Before its first edge a signal is unknown; a reset is a pulse of one nanosecond.
pub fn vcd(edges: &[Edge]) -> String {
    let mut text = String::from("$timescale 1 ns $end\n$scope module chip $end\n");
    let mut marks: BTreeMap<&str, char> = BTreeMap::new();
    for (name, _) in signals(edges) {
        let mark = char::from(b'!' + u8::try_from(marks.len() % 90).unwrap_or(0));
        marks.insert(name, mark);
        let form = if is_share(name) { "real 64" } else { "wire 1" };
        let _ = writeln!(text, "$var {form} {mark} {name} $end");
    }
    text += "$upscope $end\n$enddefinitions $end\n#0\n";
    for (name, mark) in &marks {
        let _ = match *name {
            "reset" => writeln!(text, "0{mark}"),
            name if is_share(name) => writeln!(text, "r0 {mark}"),
            _ => writeln!(text, "x{mark}"),
        };
    }
    let mut changes: Vec<(u64, String)> = Vec::new();
    for edge in edges {
        let Some(mark) = marks.get(edge.name.as_str()) else { continue };
        let time = edge.time / 1000;
        if edge.name == "reset" {
            changes.extend([(time, format!("1{mark}")), (time + 1, format!("0{mark}"))]);
        } else if is_share(&edge.name) {
            changes.push((time, format!("r{} {mark}", edge.value)));
        } else {
            changes.push((time, format!("{}{mark}", u8::from(edge.value != 0.0))));
        }
    }
    changes.sort_by_key(|(time, ..)| *time);
    let mut last = 0;
    for (time, change) in changes {
        if time != last {
            let _ = writeln!(text, "#{time}");
            last = time;
        }
        let _ = writeln!(text, "{change}");
    }
    text
}

/// Pixels: of the names, of the lines, of a signal, of a level.
const LEFT: f64 = 80.0;
const WIDTH: f64 = 880.0;
const ROW: f64 = 36.0;
const HIGH: f64 = 20.0;
/// Marks on the axis of time.
const MARKS: u32 = 8;

/// A timing chart.
pub fn svg(edges: &[Edge]) -> String {
    let signals = signals(edges);
    let (first, last) = (edges.iter().map(|edge| edge.time).min(), edges.iter().map(|edge| edge.time).max());
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
    let span = (last - first).max(1) as f64;
    // A little room on both sides shows the first and the last level.
    let x = |time: u64| LEFT + WIDTH * (0.02 + 0.96 * (time.saturating_sub(first)) as f64 / span);
    let height = ROW * signals.len() as f64 + 40.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{0}\" height=\"{height}\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + 20.0
    );
    for mark in 0..=MARKS {
        let time = first + (span * f64::from(mark) / f64::from(MARKS)) as u64;
        let at = x(time);
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} 8V{:.1}\" stroke=\"#ccc\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{:.6} s</text>",
            height - 24.0,
            height - 8.0,
            time as f64 / 1e12
        );
    }
    for (row, (name, edges)) in signals.iter().enumerate() {
        let low = ROW * (row as f64 + 1.0) - 6.0;
        let _ = writeln!(text, "<text x=\"8\" y=\"{:.1}\">{name}</text>", low - 4.0);
        let path = if *name == "reset" { pulses(edges, low, x) } else { levels(edges, low, x) };
        let _ = writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\"/>");
    }
    text + "</svg>\n"
}

fn pulses(edges: &[&Edge], low: f64, x: impl Fn(u64) -> f64) -> String {
    edges.iter().map(|edge| format!("M{:.1} {low:.1}V{:.1}", x(edge.time), low - HIGH)).collect()
}

fn levels(edges: &[&Edge], low: f64, x: impl Fn(u64) -> f64) -> String {
    let mut path = String::new();
    for edge in edges {
        let (at, y) = (x(edge.time), low - HIGH * edge.value.clamp(0.0, 1.0));
        let _ = if path.is_empty() { write!(path, "M{at:.1} {y:.1}") } else { write!(path, "H{at:.1}V{y:.1}") };
    }
    let _ = write!(path, "H{:.1}", LEFT + WIDTH);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "1000000 gpio4 1\n500000000 gpio4 0\n500000000 gpio12 1\n900000000 reset 1\nnoise\n";

    #[test]
    fn trace_becomes_a_value_change_dump() {
        let dump = vcd(&parse(TRACE));
        assert!(
            dump.contains("$var wire 1 ! gpio4 $end\n$var wire 1 \" gpio12 $end\n$var wire 1 # reset $end"),
            "{dump}"
        );
        assert!(dump.ends_with("#1000\n1!\n#500000\n0!\n1\"\n#900000\n1#\n#900001\n0#\n"), "{dump}");
    }

    #[test]
    fn pwm_becomes_a_real_number_and_a_height() {
        let edges = parse(
            "1000 pwm0 0.2500 256/1024 5000.0 Hz\n2000000 pwm0 0.0000 0/1 0.0 Hz\n3000 spi2 sent 9f received ef\n",
        );
        assert_eq!(edges.len(), 2);
        let dump = vcd(&edges);
        assert!(dump.contains("$var real 64 ! pwm0 $end") && dump.ends_with("#1\nr0.25 !\n#2000\nr0 !\n"), "{dump}");
        assert!(svg(&edges).contains("25.0H"), "{}", svg(&edges));
    }

    #[test]
    fn trace_becomes_a_chart_with_a_row_for_each_signal() {
        let chart = svg(&parse(TRACE));
        for text in ["gpio4</text>", "gpio12</text>", "reset</text>", "0.000900 s</text>"] {
            assert!(chart.contains(text), "{text} in {chart}");
        }
        assert!(svg(&[]).starts_with("<svg"));
    }
}
