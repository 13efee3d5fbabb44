//! Prints what was measured: median, minimum, and onggi's share of each other engine.

use serde_json::{Value, json};

/// One kind of work. Numbers are in `unit`; in the order of `engines`, empty where the engine has no such
/// command.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub work: &'static str,
    /// Of the numbers.
    pub unit: &'static str,
    /// Of each engine.
    pub samples: Vec<Vec<f64>>,
}

impl Line {
    /// Without numbers yet.
    pub fn new(work: &'static str, unit: &'static str, engines: usize) -> Self {
        Self {
            work,
            unit,
            samples: vec![Vec::new(); engines],
        }
    }
}

/// The middle, or the mean of the two in the middle.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The least.
pub fn minimum(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().min_by(f64::total_cmp)
}

/// A Markdown table. `subject` is the place of onggi among the engines; cells are `median / minimum`.
pub fn print(lines: &[Line], engines: &[&str], subject: usize) {
    let others = || (0..engines.len()).filter(move |&other| other != subject);
    let mut head = String::from("| work |");
    for name in engines {
        head += &format!(" {name} |");
    }
    for other in others() {
        head += &format!(" {}/{} |", engines[subject], engines[other]);
    }
    println!("{head}");
    println!("|---|{}", "---|".repeat(engines.len() * 2 - 1));
    for line in lines {
        let mut row = format!("| {}, {} |", line.work, line.unit);
        for samples in &line.samples {
            row += &cell(median(samples), minimum(samples), " / ");
        }
        for other in others() {
            let (mine, theirs) = (&line.samples[subject], &line.samples[other]);
            let share = |of: fn(&[f64]) -> Option<f64>| Some(of(mine)? / of(theirs)?);
            row += &cell(share(median), share(minimum), " / ");
        }
        println!("{row}");
    }
}

fn cell(first: Option<f64>, second: Option<f64>, between: &str) -> String {
    match (first, second) {
        (Some(first), Some(second)) => format!(" {first:.2}{between}{second:.2} |"),
        _ => " – |".to_owned(),
    }
}

/// Every sample, for later comparison.
pub fn to_json(lines: &[Line], engines: &[&str]) -> Value {
    lines
        .iter()
        .map(|line| {
            let by_engine: serde_json::Map<String, Value> = engines
                .iter()
                .zip(&line.samples)
                .filter(|(_, samples)| !samples.is_empty())
                .map(|(name, samples)| {
                    let numbers =
                        json!({"median": median(samples), "minimum": minimum(samples), "samples": samples});
                    ((*name).to_owned(), numbers)
                })
                .collect();
            json!({"work": line.work, "unit": line.unit, "engines": by_engine})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(minimum(&[4.0, 1.0, 2.0]), Some(1.0));
    }

    #[test]
    fn an_engine_without_the_command_is_left_out() {
        let mut line = Line::new("state", "ms", 2);
        line.samples[1].push(1.5);
        let json = to_json(&[line], &["floor", "onggi"]);
        assert_eq!(json[0]["engines"]["onggi"]["minimum"], 1.5);
        assert!(json[0]["engines"].get("floor").is_none());
    }
}
