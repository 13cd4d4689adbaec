//! The report's pictures: what is where in flash, and what happened when on the line.

use std::fmt::Write as _;

use esp_link::port::trace::{Event, Trace};

const WIDTH: u64 = 960;
const COLOURS: [&str; 6] = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1"];

fn svg(height: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"13\">\n"
    )
}

/// The flash as one bar with its partitions: name, offset and size of each.
pub fn flash_map(rows: &[(String, u64, u64)]) -> String {
    let end = rows.iter().map(|(_, offset, size)| offset + size).max().unwrap_or(1).max(1);
    let mut svg = svg(70 + rows.len() * 20);
    let _ = writeln!(svg, "<rect x=\"20\" y=\"20\" width=\"{WIDTH}\" height=\"30\" fill=\"#ddd\"/>");
    for (i, (name, offset, size)) in rows.iter().enumerate() {
        let (x, width) = (20 + offset * WIDTH / end, (size * WIDTH / end).max(1));
        let colour = COLOURS[i % COLOURS.len()];
        let y = 70 + i * 20;
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"20\" width=\"{width}\" height=\"30\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<rect x=\"20\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"40\" y=\"{}\">{name} {offset:#x} + {size:#x}</text>", y + 11);
    }
    svg + "</svg>\n"
}

/// A recorded line over time: bytes received above the axis, bytes sent below it (heights are logarithmic), modem lines,
/// changes of the rate and failures as marks.
pub fn timing(traces: &[(&str, &Trace)]) -> String {
    const BAND: usize = 150;
    let mut out = svg(20 + traces.len() * BAND);
    for (index, (name, trace)) in traces.iter().enumerate() {
        band(&mut out, name, trace, 20 + index * BAND);
    }
    out + "</svg>\n"
}

fn band(out: &mut String, name: &str, trace: &Trace, top: usize) {
    const SLOTS: usize = 240;
    let first = trace.steps.first().map_or(0, |step| step.at_us);
    let span = trace.steps.last().map_or(0, |step| step.at_us).saturating_sub(first).max(1);
    let slot = |at_us: u64| ((at_us - first) as u128 * (SLOTS as u128 - 1) / u128::from(span)) as usize;
    let (mut received, mut sent) = ([0u64; SLOTS], [0u64; SLOTS]);
    let mut marks = Vec::new();
    for step in &trace.steps {
        let slot = slot(step.at_us).min(SLOTS - 1);
        match &step.event {
            Event::Read(bytes) => received[slot] += bytes.len() as u64,
            Event::Wrote(bytes) => sent[slot] += bytes.len() as u64,
            Event::Lines { .. } => marks.push((slot, "#f28e2b", String::from("DTR/RTS"))),
            Event::Baud(baud) => marks.push((slot, "#59a14f", format!("{baud} baud"))),
            Event::Failed { .. } | Event::Reopened => marks.push((slot, "#e15759", String::from("failed or reopened"))),
            Event::Sleep(_) => {}
        }
    }
    let axis = top + 70;
    let total = |counts: &[u64]| counts.iter().sum::<u64>();
    let _ = writeln!(
        out,
        "<text x=\"20\" y=\"{}\">{name}: {:.3} s, {} bytes received (above), {} sent (below)</text>",
        top + 12,
        span as f64 / 1e6,
        total(&received),
        total(&sent)
    );
    let _ = writeln!(out, "<line x1=\"20\" y1=\"{axis}\" x2=\"980\" y2=\"{axis}\" stroke=\"#333\"/>");
    let height = |count: u64| if count == 0 { 0 } else { (4.0 * (count as f64 + 1.0).log2()).min(48.0) as usize };
    for slot in 0..SLOTS {
        let x = 20 + slot * 4;
        let (up, down) = (height(received[slot]), height(sent[slot]));
        if up > 0 {
            let _ = writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"4\" height=\"{up}\" fill=\"#4e79a7\"/>", axis - up);
        }
        if down > 0 {
            let _ = writeln!(out, "<rect x=\"{x}\" y=\"{axis}\" width=\"4\" height=\"{down}\" fill=\"#b07aa1\"/>");
        }
    }
    marks.dedup();
    for (slot, colour, title) in marks.iter().take(200) {
        let x = 22 + slot * 4;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\" stroke=\"{colour}\"><title>{title}</title></line>",
            axis - 50,
            axis + 50
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_flash_cannot_write_markup() {
        let svg = flash_map(&[("<script>".into(), 0x9000, 0x6000)]);
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn a_line_becomes_bars_and_marks() {
        let trace = Trace::parse("esp-trace 1 u\n0 lines 1 0\n1000 > c0c0\n2000 < 0a0b0c\n9000 baud 921600\n").unwrap();
        let svg = timing(&[("connecting", &trace), ("console", &Trace::default())]);
        assert!(svg.contains("3 bytes received (above), 2 sent (below)") && svg.contains("921600 baud"), "{svg}");
        assert!(svg.matches("<rect").count() == 2, "{svg}");
    }
}
