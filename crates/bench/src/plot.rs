//! Draws what a page costs against the depth of the archive, one small chart per kind of page, one line per server.
//! Which values belong there is read from the same records as the tables.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries,
        PathElement, RGBColor, SVGBackend, Text, WHITE,
    },
};

use crate::{report::median, result::Record};

/// Charts and the records they show.
const CHARTS: [(&str, &str, &str); 6] = [
    ("page", "last page", "last page"),
    ("page", "after id", "page after an id"),
    ("page", "from date", "page from a date"),
    ("page", "with frequent", "last page with a frequent contact"),
    ("page", "with rare", "last page with a rare contact"),
    ("page", "with never", "page with an unknown contact"),
];

const COLUMNS: usize = 3;
const SIZE: (u32, u32) = (1200, 800);
const LEGEND_HEIGHT: u32 = 40;
const LEGEND_LEFT: i32 = 64;
const LEGEND_STEP: i32 = 150;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x7a, 0x51, 0xa8),
    RGBColor(0x2b, 0x8a, 0x4b),
    RGBColor(0xc2, 0x2f, 0x5b),
    RGBColor(0x66, 0x66, 0x66),
];

/// Depth and median cost in milliseconds, per server.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws all charts into one SVG file; draws nothing if there are no depths.
///
/// # Errors
/// The file cannot be written.
pub fn depth(records: &[Record], path: &Path) -> Result<()> {
    let all: Vec<(&str, Lines)> =
        CHARTS.iter().map(|(scenario, case, title)| (*title, lines(records, scenario, case))).collect();
    let points: Vec<(f64, f64)> =
        all.iter().flat_map(|(_, lines)| lines.values().flatten().copied()).collect();
    if points.is_empty() {
        return Ok(());
    }
    let servers: Vec<String> = servers(records);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    draw(&area, &all, &servers, &points).map_err(|error| anyhow!("drawing {}: {error}", path.display()))
}

type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    area: &Drawing<'_>,
    charts: &[(&str, Lines)],
    servers: &[String],
    points: &[(f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let values = points.iter().map(of);
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((x_low, x_high), (y_low, y_high)) = (bounds(|p| p.0), bounds(|p| p.1));
    let (top, charts_area) = area.split_vertically(LEGEND_HEIGHT);
    legend(&top, servers)?;
    let parts = charts_area.split_evenly((charts.len().div_ceil(COLUMNS), COLUMNS));
    for (part, (title, lines)) in parts.iter().zip(charts) {
        let mut chart = ChartBuilder::on(part)
            .caption(title, ("sans-serif", 16).into_font())
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(
                (x_low / 1.5..x_high * 1.5).log_scale(),
                (10_f64.powf(y_low.log10().floor())..10_f64.powf(y_high.log10().ceil())).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("messages in the archive")
            .y_desc("p50, ms")
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        for (server, colour) in servers.iter().zip(COLOURS.iter().cycle()) {
            let Some(line) = lines.get(server) else { continue };
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(line.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
    }
    area.present()?;
    Ok(())
}

/// One line of colours and names for all charts.
fn legend(area: &Drawing<'_>, servers: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    for ((at, server), colour) in (0..).zip(servers).zip(COLOURS.iter().cycle()) {
        let x = LEGEND_LEFT + at * LEGEND_STEP;
        area.draw(&PathElement::new([(x, 20), (x + 24, 20)], colour.stroke_width(3)))?;
        area.draw(&Text::new(server.clone(), (x + 32, 13), ("sans-serif", 15).into_font()))?;
    }
    Ok(())
}

fn lines(records: &[Record], scenario: &str, case: &str) -> Lines {
    let mut values: BTreeMap<&str, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
    for record in records.iter().filter(|r| r.scenario == scenario && r.case == case) {
        if let (Some(depth), Some(ms)) = (record.params.get("depth"), record.metrics.get("p50_ms")) {
            values.entry(&record.server).or_default().entry(*depth).or_default().push(*ms);
        }
    }
    let line = |depths: BTreeMap<u64, Vec<f64>>| {
        depths.iter().filter_map(|(depth, ms)| Some((*depth as f64, median(ms)?.max(1e-3)))).collect()
    };
    values.into_iter().map(|(server, depths)| (server.to_owned(), line(depths))).collect()
}

fn servers(records: &[Record]) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    for record in records.iter().filter(|r| r.scenario == "page") {
        if !servers.contains(&record.server) {
            servers.push(record.server.clone());
        }
    }
    servers
}

/// Only powers of ten are named; the lines between them speak for themselves.
fn short(value: f64) -> String {
    let exponent = value.log10().round();
    let power = 10_f64.powf(exponent);
    if (value / power - 1.0).abs() > 1e-6 {
        return String::new();
    }
    match power {
        v if v < 1.0 => format!("{v:.*}", (-exponent) as usize),
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn every_server_has_its_line() {
        let mut records = Vec::new();
        for (server, ms) in [("mammoth", 0.4), ("prosody", 30.0)] {
            for depth in [1_000, 100_000] {
                let mut at = record(server, "page", "last page", 1, "p50_ms", ms);
                at.params.insert("depth".to_owned(), depth);
                records.push(at);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("depth.svg");
        depth(&records, &path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("mammoth") && svg.contains("prosody") && svg.contains("last page"));
        assert!(svg.matches("<circle").count() >= 4);
    }
}
