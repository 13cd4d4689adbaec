//! The whole flash in the order of addresses: one bar to scale, and below it a row for each region.

use super::{Picture, Rect, Shape, human};

/// A region of the flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub about: String,
    /// First address.
    pub address: u32,
    /// Length in bytes.
    pub size: u32,
    /// Bytes in use, where that is known.
    pub used: Option<u32>,
    /// What it is, for the colour.
    pub kind: Kind,
}

/// What a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The bootloader.
    Bootloader,
    /// The partition table.
    Table,
    /// An application.
    App,
    /// Data.
    Data,
    /// In no partition.
    Gap,
    /// Anything else.
    Other,
}

impl Kind {
    const fn color(self) -> [u8; 3] {
        match self {
            Self::Bootloader => [190, 120, 50],
            Self::Table => [160, 80, 130],
            Self::App => [66, 110, 180],
            Self::Data => [60, 150, 110],
            Self::Gap => [205, 205, 205],
            Self::Other => [110, 120, 60],
        }
    }
}

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 20.0;
/// Upper edge and height of the bar.
const BAR: (f64, f64) = (34.0, 44.0);
const ROW: f64 = 22.0;
/// Parts that the addresses below the bar divide it into.
const TICKS: u32 = 4;
/// Columns: swatch, addresses, name, size, share in use, content.
const COLUMNS: [f64; 6] = [LEFT, 44.0, 236.0, 410.0, 500.0, 690.0];

/// Draws the flash. The regions are in the order of their addresses.
pub fn draw(title: &str, flash_size: u32, regions: &[Region]) -> Picture {
    let bar_width = WIDTH - 2.0 * LEFT;
    let scale = bar_width / f64::from(flash_size.max(1));
    let text = |x: f64, y: f64, text: String| Shape::Text { x, y, text };
    let mut shapes = vec![text(LEFT, 20.0, title.to_owned())];
    let whole = Rect { x: LEFT, y: BAR.0, w: bar_width, h: BAR.1 };
    shapes.push(Shape::Area { rect: whole, color: Kind::Gap.color(), title: String::new() });
    for region in regions {
        let (x, w) = (LEFT + f64::from(region.address) * scale, (f64::from(region.size) * scale).max(1.0));
        let title = format!("{}: {}, {}", region.name, range(region), human(region.size.into()));
        shapes.push(Shape::Area { rect: Rect { x, w, ..whole }, color: region.kind.color(), title });
        if super::fits(&region.name, w - 8.0) {
            shapes.push(text(x + 4.0, BAR.0 + 26.0, region.name.clone()));
        }
    }
    let below = BAR.0 + BAR.1;
    for tick in 0..=TICKS {
        let address = u64::from(flash_size) * u64::from(tick) / u64::from(TICKS);
        let label = format!("{address:#x}");
        let at = LEFT + address as f64 * scale;
        let room = label.len() as f64 * super::ADVANCE;
        let x = if tick == TICKS { at - room } else { at };
        shapes.push(Shape::Area {
            rect: Rect { x: at.min(WIDTH - LEFT - 1.0), y: below, w: 1.0, h: 5.0 },
            color: [80, 80, 80],
            title: String::new(),
        });
        shapes.push(text(x, below + 18.0, label));
    }
    let mut top = below + 34.0;
    for region in regions {
        row(&mut shapes, region, top);
        top += ROW;
    }
    Picture { width: WIDTH as u32, height: (top + 8.0) as u32, shapes }
}

fn range(region: &Region) -> String {
    let last = u64::from(region.address) + u64::from(region.size).saturating_sub(1);
    format!("0x{:08x}-0x{last:08x}", region.address)
}

fn row(shapes: &mut Vec<Shape>, region: &Region, top: f64) {
    let [swatch, addresses, name, size, share, content] = COLUMNS;
    let baseline = top + 11.0;
    let mut text = |x: f64, text: String| shapes.push(Shape::Text { x, y: baseline, text });
    text(addresses, range(region));
    text(name, shortened(&region.name, size - name));
    text(size, human(region.size.into()));
    text(content, shortened(&region.about, WIDTH - content));
    let used = match region.used {
        Some(used) => format!("{} used", human(used.into())),
        None => "use unknown".into(),
    };
    text(share + 64.0, used);
    let square = Rect { x: swatch, y: top, w: 12.0, h: 12.0 };
    shapes.push(Shape::Area { rect: square, color: region.kind.color(), title: String::new() });
    let Some(used) = region.used else { return };
    let full = Rect { x: share, y: top + 2.0, w: 56.0, h: 8.0 };
    shapes.push(Shape::Area { rect: full, color: [225, 225, 225], title: String::new() });
    if used > 0 {
        let part = (full.w * f64::from(used) / f64::from(region.size.max(1))).clamp(1.0, full.w);
        shapes.push(Shape::Area { rect: Rect { w: part, ..full }, color: region.kind.color(), title: String::new() });
    }
}

/// The text, or whole words of it with an ellipsis.
fn shortened(text: &str, width: f64) -> String {
    if super::fits(text, width) {
        return text.to_owned();
    }
    let room = (width / super::ADVANCE) as usize;
    let start: String = text.chars().take(room.saturating_sub(3)).collect();
    let whole = start.rsplit_once(' ').map_or(start.as_str(), |(words, _)| words);
    format!("{} ..", whole.trim_end_matches(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, address: u32, size: u32, used: Option<u32>, kind: Kind) -> Region {
        Region { name: name.into(), about: "content".into(), address, size, used, kind }
    }

    #[test]
    fn the_map_is_in_the_order_of_addresses_and_reaches_the_end() {
        let regions = [
            region("bootloader", 0, 0x8000, Some(0x5000), Kind::Bootloader),
            region("nvs", 0x9000, 0x6000, Some(0), Kind::Data),
            region("factory", 0x10000, 0x100000, None, Kind::App),
            region("gap-0x110000", 0x110000, 0x2f0000, Some(0), Kind::Gap),
        ];
        let svg = draw("ESP32, 4 MB", 4 << 20, &regions).svg();
        let at = |text: &str| svg.find(text).unwrap_or_else(|| panic!("{text} is missing: {svg}"));
        assert!(at("0x00000000-0x00007fff") < at("0x00009000-0x0000efff"));
        assert!(at("0x00010000-0x0010ffff") < at("0x00110000-0x003fffff"));
        assert!(svg.contains(">0x400000<") && svg.contains("20 KB used") && svg.contains("use unknown"));
        // Everything is inside of the picture.
        let picture = draw("ESP32", 4 << 20, &regions);
        for shape in &picture.shapes {
            let (right, bottom) = match shape {
                Shape::Area { rect, .. } => (rect.x + rect.w, rect.y + rect.h),
                Shape::Text { x, y, text } => (x + text.len() as f64 * super::super::ADVANCE, *y),
            };
            assert!(right <= f64::from(picture.width) && bottom <= f64::from(picture.height), "{shape:?}");
        }
    }

    #[test]
    fn long_texts_end_at_a_word() {
        assert_eq!(shortened("app 1.2.3, built today", 100.0), "app ..");
        assert_eq!(shortened("app", 100.0), "app");
    }
}
