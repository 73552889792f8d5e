//! A table as a plot: ratios to the first column (native, as a rule) on a logarithmic scale, a dot each way.

use crate::Table;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const ROW: u32 = 22;
const WIDTH: u32 = 960;

/// Writes the plot as SVG.
pub fn write(table: &Table, columns: &[String], path: &Path) -> Result<()> {
    draw(table, columns, path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(table: &Table, columns: &[String], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rows = table.rows.len();
    let first = columns.first().map_or("", String::as_str);
    let height = 110 + ROW * rows as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let ratio = |row: usize, way: usize| {
        let values = &table.rows.get(row)?.values;
        let ratio = values.get(way)? / values.first()?;
        ratio.is_finite().then_some(ratio)
    };
    let all = || (0..rows).flat_map(|row| (1..columns.len()).filter_map(move |way| ratio(row, way)));
    let low = all().fold(0.5f64, f64::min) * 0.8;
    let high = all().fold(2.0f64, f64::max) * 1.25;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{}: time or memory as a ratio to {first}", table.title), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(330)
        .build_cartesian_2d((low..high).log_scale(), (0..rows).into_segmented())?;
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(row) => table
            .rows
            .get(rows - 1 - (*row).min(rows - 1))
            .map_or_else(String::new, |row| row.name.replace('`', "")),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .y_labels(rows + 1)
        .y_label_formatter(&name)
        .x_label_formatter(&|ratio| format!("{ratio:.2}"))
        .x_desc(format!("ratio to {first} (left of 1: faster, smaller)"))
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(std::iter::once(PathElement::new(
        vec![(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Exact(rows))],
        BLACK.stroke_width(2),
    )))?;
    for (way, name) in columns.iter().enumerate().skip(1) {
        let color = Palette99::pick(way + 1).to_rgba();
        let dots = (0..rows).filter_map(|row| {
            let ratio = ratio(row, way)?;
            Some(Circle::new((ratio, SegmentValue::CenterOf(rows - 1 - row)), 5, color.filled()))
        });
        chart
            .draw_series(dots.collect::<Vec<_>>())?
            .label(name.as_str())
            .legend(move |(x, y)| Circle::new((x + 10, y), 5, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
