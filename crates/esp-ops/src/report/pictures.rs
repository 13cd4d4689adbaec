//! The report's picture of the line: what happened when.

use std::fmt::Write as _;

use esp_link::port::trace::{Event, Trace};

/// Left and right end of the axis in pixels.
const AXIS: (usize, usize) = (20, 980);
const SLOTS: usize = 240;
/// Height of one recording's part of the picture.
const BAND: usize = 170;
/// Height of the legend.
const LEGEND: usize = 40;
const RECEIVED: &str = "#4e79a7";
const SENT: &str = "#b07aa1";
const LINES: &str = "#f28e2b";
const RATE: &str = "#59a14f";
const FAILED: &str = "#e15759";
/// What the colours mean, in the order of the legend.
const MEANINGS: [(&str, &str); 5] = [
    (RECEIVED, "bytes received"),
    (SENT, "bytes sent"),
    (LINES, "DTR or RTS changed"),
    (RATE, "line rate changed"),
    (FAILED, "failed or reopened"),
];

/// Recorded lines over time: bytes received above the axis, bytes sent below it (heights are logarithmic), modem lines,
/// changes of the rate and failures as marks.
pub fn timing(traces: &[(&str, &Trace)]) -> String {
    let height = LEGEND + traces.len() * BAND;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 {height}\" width=\"1000\" height=\"{height}\" \
         font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"12\">\n\
         <rect width=\"1000\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, (colour, meaning)) in MEANINGS.iter().enumerate() {
        let x = AXIS.0 + index * 190;
        let _ =
            writeln!(out, "<rect class=\"legend\" x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"23\">{meaning}</text>", x + 18);
    }
    for (index, (name, trace)) in traces.iter().enumerate() {
        band(&mut out, name, trace, LEGEND + index * BAND);
    }
    out + "</svg>\n"
}

/// What a slot of time holds.
#[derive(Default)]
struct Counts {
    received: Vec<u64>,
    sent: Vec<u64>,
    marks: Vec<(usize, &'static str, String)>,
}

fn counts(trace: &Trace, first: u64, span: u64) -> Counts {
    let mut counts = Counts { received: vec![0; SLOTS], sent: vec![0; SLOTS], marks: Vec::new() };
    for step in &trace.steps {
        let slot = (u128::from(step.at_us - first) * (SLOTS as u128 - 1) / u128::from(span)) as usize;
        let slot = slot.min(SLOTS - 1);
        let add =
            |to: &mut Vec<u64>, bytes: usize| to.iter_mut().skip(slot).take(1).for_each(|sum| *sum += bytes as u64);
        match &step.event {
            Event::Read(bytes) => add(&mut counts.received, bytes.len()),
            Event::Wrote(bytes) => add(&mut counts.sent, bytes.len()),
            Event::Lines { .. } => counts.marks.push((slot, LINES, "DTR or RTS changed".into())),
            Event::Baud(baud) => counts.marks.push((slot, RATE, format!("{baud} baud"))),
            Event::Failed { .. } | Event::Reopened => counts.marks.push((slot, FAILED, "failed or reopened".into())),
            Event::Sleep(_) => {}
        }
    }
    counts.marks.dedup();
    counts
}

fn band(out: &mut String, name: &str, trace: &Trace, top: usize) {
    let first = trace.steps.first().map_or(0, |step| step.at_us);
    let span = trace.steps.last().map_or(0, |step| step.at_us).saturating_sub(first).max(1);
    let counts = counts(trace, first, span);
    let zero = top + 76;
    let total = |counts: &[u64]| counts.iter().sum::<u64>();
    let _ = writeln!(
        out,
        "<text x=\"20\" y=\"{}\">{name}: {:.3} s, {} bytes received (above), {} bytes sent (below)</text>",
        top + 14,
        span as f64 / 1e6,
        total(&counts.received),
        total(&counts.sent)
    );
    let height = |count: u64| if count == 0 { 0 } else { (4.0 * (count as f64 + 1.0).log2()).min(48.0) as usize };
    let mut bar = |x: usize, y: usize, height: usize, colour: &str, bytes: u64| {
        let title = format!("<title>{bytes} bytes</title>");
        let _ = writeln!(
            out,
            "<rect class=\"bytes\" x=\"{x}\" y=\"{y}\" width=\"4\" height=\"{height}\" fill=\"{colour}\">{title}</rect>"
        );
    };
    for (slot, (received, sent)) in counts.received.iter().zip(&counts.sent).enumerate() {
        let x = AXIS.0 + slot * 4;
        let (up, down) = (height(*received), height(*sent));
        if up > 0 {
            bar(x, zero - up, up, RECEIVED, *received);
        }
        if down > 0 {
            bar(x, zero, down, SENT, *sent);
        }
    }
    for (slot, colour, title) in counts.marks.iter().take(200) {
        let x = AXIS.0 + 2 + slot * 4;
        let (y1, y2) = (zero - 50, zero + 50);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{y1}\" x2=\"{x}\" y2=\"{y2}\" stroke=\"{colour}\"><title>{title}</title></line>"
        );
    }
    axis(out, span, zero);
}

/// The axis with its times: round steps, five to ten of them.
fn axis(out: &mut String, span_us: u64, zero: usize) {
    let (left, right) = AXIS;
    let _ = writeln!(out, "<line x1=\"{left}\" y1=\"{zero}\" x2=\"{right}\" y2=\"{zero}\" stroke=\"#333\"/>");
    let step = round_step(span_us);
    for tick in 0..=span_us / step {
        let x = left as f64 + (tick * step) as f64 * (right - left) as f64 / span_us as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#333\"/>",
            zero - 3,
            zero + 3
        );
        // The last label would leave the picture.
        if x < right as f64 - 60.0 {
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{}\" fill=\"#555\">{}</text>", zero + 70, time(tick * step));
        }
    }
}

/// The largest of 1, 2 and 5 times a power of ten that divides the span into at least five parts.
fn round_step(span_us: u64) -> u64 {
    let mut step = 1;
    for factor in [2, 5, 10].iter().cycle() {
        let power = 10u64.pow(step_digits(step));
        let next = if *factor == 10 { power * 10 } else { power * factor };
        if next.saturating_mul(5) > span_us {
            break;
        }
        step = next;
    }
    step
}

fn step_digits(step: u64) -> u32 {
    step.checked_ilog10().unwrap_or(0)
}

fn time(us: u64) -> String {
    match us {
        0 => "0".into(),
        1..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us as f64 / 1e3),
        _ => format!("{} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_bars_and_marks_with_axis_and_legend() {
        let trace = Trace::parse("esp-trace 1 u\n0 lines 1 0\n1000 > c0c0\n2000 < 0a0b0c\n9000 baud 921600\n").unwrap();
        let svg = timing(&[("connecting", &trace), ("console", &Trace::default())]);
        assert!(svg.contains("3 bytes received (above), 2 bytes sent (below)") && svg.contains("921600 baud"), "{svg}");
        assert_eq!((svg.matches("class=\"bytes\"").count(), svg.matches("class=\"legend\"").count()), (2, 5), "{svg}");
        for label in [">0<", ">1 ms<", ">8 ms<", ">line rate changed<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn steps_of_the_axis_are_round() {
        let steps = [1, 9, 10, 9_000, 26_000, 1_000_000, 3_000_000, 12_000_000].map(round_step);
        assert_eq!(steps, [1, 1, 2, 1_000, 5_000, 200_000, 500_000, 2_000_000]);
        assert_eq!([0, 500, 1_500, 2_500_000].map(time), ["0", "500 us", "1.5 ms", "2.5 s"]);
    }
}
