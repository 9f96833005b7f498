//! Medians, the table, and the JSON.

use std::time::Instant;

/// One figure.
pub struct Measurement {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

#[derive(Default)]
pub struct Report {
    measurements: Vec<Measurement>,
}

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.measurements.push(Measurement { name: name.into(), value, unit });
    }

    pub fn print(&self) {
        let width = self.measurements.iter().map(|measurement| measurement.name.len()).max().unwrap_or(0);
        for Measurement { name, value, unit } in &self.measurements {
            // Figures without a unit are shares and cosines, whose last digits count.
            let digits = if unit.is_empty() { 5 } else { 2 };
            println!("{name:<width$}  {value:>10.digits$} {unit}");
        }
    }

    /// `{"machine": …, "results": [{"name", "value", "unit"}, …]}`
    pub fn to_json(&self) -> String {
        let results: Vec<_> = self
            .measurements
            .iter()
            .map(|Measurement { name, value, unit }| serde_json::json!({"name": name, "value": value, "unit": unit}))
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": { "cores": cores, "arch": std::env::consts::ARCH },
            "results": results,
        })
        .to_string()
    }
}

/// Runs `work` once to warm up and `repeat` times to measure; returns the median of what it returns.
pub fn median<E>(repeat: usize, mut work: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    work()?;
    Ok(median_of((0..repeat).map(|_| work()).collect::<Result<Vec<_>, _>>()?))
}

/// The value in the middle; 0 of none.
pub fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Seconds that `work` takes.
pub fn seconds<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}
