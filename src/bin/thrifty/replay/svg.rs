//! The picture: dollars under each policy over the time of the log.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thrifty::price::Usd;
use thrifty::{Error, Kind};

use crate::replay::curve::Curve;

const SIZE: (u32, u32) = (1_000, 600);
/// Room for what the figures rest on, below the chart.
const FOOT: u32 = 64;
/// Room for the names at the ends of the lines.
const RIGHT: u32 = 210;

/// Colours that stay apart for colour-blind eyes, from dark to light so that they do in grey, too.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// How each line is broken: dash and gap in pixels; 0 is a whole line.
const DASHES: [(u32, u32); 5] = [(0, 0), (12, 5), (3, 4), (18, 8), (7, 3)];

/// Writes the picture to `path`.
pub(crate) fn draw(
    path: &Path,
    title: &str,
    foot: &[String],
    curves: &[(&str, &Curve)],
) -> Result<(), Error> {
    let mut text = String::new();
    drawing(&mut text, title, foot, curves).map_err(|why| trouble(path, &why))?;
    std::fs::write(path, text).map_err(|error| trouble(path, &error.to_string()))
}

/// Fails early where the picture could not be written after long work.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| trouble(path, &error.to_string()))
}

/// Thousandths as a decimal without trailing zeros.
fn decimal(thousandths: i64) -> String {
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths.unsigned_abs() % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn trouble(path: &Path, why: &str) -> Error {
    Error::new(
        Kind::BadSetting,
        format!("the picture `{}` cannot be written ({why})", path.display()),
        "give a path that can be written to with --svg",
    )
}

fn drawing(text: &mut String, title: &str, foot: &[String], curves: &[(&str, &Curve)]) -> Result<(), String> {
    let points = || curves.iter().flat_map(|(_, curve)| curve.points());
    let from = points().map(|point| point.0).min().unwrap_or(0);
    let to = points().map(|point| point.0).max().unwrap_or(0).max(from + 1_000);
    let most = points().map(|point| point.1).max().unwrap_or_default().pico().max(1_000_000);
    // Micro-dollars fit into the integers the axes are drawn with.
    let micro = |usd: Usd| i64::try_from(usd.pico() / 1_000_000).unwrap_or(i64::MAX);
    let top = micro(Usd::from_pico(most)).saturating_mul(21) / 20 + 1;
    let (unit, name) = match (to - from) / 1_000 {
        0..=600 => (1_000, "seconds"),
        601..=36_000 => (60_000, "minutes"),
        36_001..=864_000 => (3_600_000, "hours"),
        _ => (86_400_000, "days"),
    };
    // Thousandths of the unit, so that the axis is labelled at round numbers of it.
    let thousandths = |at_ms: i64| (at_ms - from).saturating_mul(1_000) / unit;
    let decimals = match top {
        0..=9_999 => 5,
        10_000..=999_999 => 3,
        1_000_000..=49_999_999 => 2,
        _ => 0,
    };

    let failed = |error: DrawingAreaErrorKind<_>| error.to_string();
    let area = SVGBackend::with_string(text, (SIZE.0, SIZE.1 + FOOT)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let (area, below) = area.split_vertically(SIZE.1);
    for (y, line) in (4..).step_by(18).zip(foot) {
        below.draw(&Text::new(line.clone(), (16, y), ("sans-serif", 13))).map_err(failed)?;
    }
    let (area, margin) = area.split_horizontally(SIZE.0 - RIGHT);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(88)
        .build_cartesian_2d(0..thousandths(to), 0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(format!("time since the first request ({name})"))
        .y_desc("spent so far (US dollars)")
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|at| decimal(*at))
        .y_label_formatter(&|micro| Usd::from_pico(i128::from(*micro) * 1_000_000).display(decimals))
        .draw()
        .map_err(failed)?;

    // Names beside the ends of the lines, pushed apart where the ends are close.
    let mut labels: Vec<(i32, usize, Usd)> = Vec::new();
    for (i, (_, curve)) in curves.iter().enumerate() {
        let steps = || curve.points().map(|(at, usd)| (thousandths(at), micro(usd)));
        let style =
            ShapeStyle { color: COLOURS[i % COLOURS.len()].to_rgba(), filled: false, stroke_width: 2 };
        match DASHES[i % DASHES.len()] {
            (0, _) => chart.draw_series(LineSeries::new(steps(), style)).map(drop),
            (dash, gap) => chart.draw_series(DashedLineSeries::new(steps(), dash, gap, style)).map(drop),
        }
        .map_err(failed)?;
        let end = curve.points().last().unwrap_or_default();
        let place = chart.backend_coord(&(thousandths(end.0), micro(end.1)));
        labels.push((place.1, i, end.1));
    }
    labels.sort_unstable();
    let high = i32::try_from(SIZE.1).unwrap_or(600) - 64;
    let mut last = i32::MIN / 2;
    for (y, _, _) in &mut labels {
        *y = (*y).max(last + 34).max(24);
        last = *y;
    }
    // Whatever was pushed below the axis comes back up.
    let mut floor = high;
    for (y, _, _) in labels.iter_mut().rev() {
        *y = (*y).min(floor);
        floor = *y - 34;
    }
    for (y, i, usd) in labels {
        let colour = COLOURS[i % COLOURS.len()];
        let (dash, gap) = DASHES[i % DASHES.len()];
        let mut x = 4;
        while x < 40 {
            let end = if dash == 0 { 40 } else { (x + i32::try_from(dash).unwrap_or(8)).min(40) };
            let key = PathElement::new(vec![(x, y), (end, y)], colour.stroke_width(3));
            margin.draw(&key).map_err(failed)?;
            x = end + i32::try_from(gap.max(1)).unwrap_or(4);
        }
        let style = |size| {
            TextStyle::from(("sans-serif", size).into_font())
                .pos(Pos::new(HPos::Left, VPos::Center))
                .color(&BLACK)
        };
        margin.draw(&Text::new(curves[i].0.to_owned(), (48, y - 8), style(16))).map_err(failed)?;
        margin.draw(&Text::new(usd.display(decimals.max(2)), (48, y + 9), style(14))).map_err(failed)?;
    }
    below.present().map_err(failed)?;
    area.present().map_err(failed)?;
    margin.present().map_err(failed)
}
