//! The figures of both servers: tables to read while the benchmark runs, and the JSON.

use crate::process::load_average;
use crate::side::Side;

/// One figure of each server, in the order of the sides.
struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<Option<f64>>,
}

pub struct Report {
    labels: Vec<&'static str>,
    extensions: Vec<String>,
    load_before: Option<f64>,
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(sides: &[Side]) -> Self {
        Self {
            labels: sides.iter().map(|side| side.label).collect(),
            extensions: sides.iter().map(|side| side.extension.clone()).collect(),
            load_before: load_average(),
            figures: Vec::new(),
        }
    }

    /// Keeps a figure for the JSON alone.
    pub fn keep(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<Option<f64>>) {
        if values.iter().any(Option::is_some) {
            self.figures.push(Figure { name: name.into(), unit, values });
        }
    }

    /// Keeps a figure and prints it.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<Option<f64>>) {
        let name = name.into();
        if values.iter().any(Option::is_some) {
            let shown = self.labels.iter().zip(&values).map(|(label, value)| format!("{label} {:>10}", shown(*value)));
            let ratio = ratio(&values).map_or(String::new(), |ratio| format!("  ratio {ratio:.3}"));
            println!("{name:<60}  {}{ratio}  {unit}", shown.collect::<Vec<_>>().join("  "));
        }
        self.keep(name, unit, values);
    }

    /// `{"machine": …, "sides": …, "results": [{"name", "value", "unit"}, …]}`: a figure of each server, then their ratio.
    pub fn to_json(&self) -> String {
        let mut results = Vec::new();
        for Figure { name, unit, values } in &self.figures {
            for (label, value) in self.labels.iter().zip(values) {
                if let Some(value) = value {
                    results.push(serde_json::json!({"name": format!("{name}, {label}"), "value": value, "unit": unit}));
                }
            }
            if let Some(ratio) = ratio(values) {
                results
                    .push(serde_json::json!({"name": format!("{name}, ours/peer"), "value": ratio, "unit": "times"}));
            }
        }
        let sides: serde_json::Map<_, _> = self
            .labels
            .iter()
            .zip(&self.extensions)
            .map(|(label, name)| (label.to_string(), name.clone().into()))
            .collect();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": {
                "cores": crate::vectors::cores(),
                "arch": std::env::consts::ARCH,
                "load_before": self.load_before,
                "load_after": load_average(),
            },
            "sides": sides,
            "results": results,
        })
        .to_string()
    }
}

/// Of our figure to the peer's.
pub fn ratio(values: &[Option<f64>]) -> Option<f64> {
    match values {
        [Some(ours), Some(peer)] if *peer != 0.0 => Some(ours / peer),
        _ => None,
    }
}

/// A number with about four digits.
pub fn shown(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.4}"),
    }
}

/// Prints rows in columns, the first row as their heading.
pub fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        println!("  {}", cells.collect::<Vec<_>>().join("  "));
    }
}

/// The value in the middle; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
