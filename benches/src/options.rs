//! The command line of the benchmark.

use std::path::PathBuf;

use crate::Outcome;

pub(crate) const USAGE: &str =
    "usage: bench [--rounds N] [--json FILE] [--engine NAME=PATH]... [--only WORD]";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
    /// More runtimes, such as another build of onggi.
    pub(crate) engines: Vec<(String, PathBuf)>,
    /// Only the lines whose name has this in it.
    pub(crate) only: Option<String>,
}

impl Options {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            rounds: 100,
            json: None,
            engines: Vec::new(),
            only: None,
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match flag.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--json" => options.json = Some(value.into()),
                "--only" => options.only = Some(value),
                "--engine" => {
                    let (name, path) = value.split_once('=').ok_or(USAGE)?;
                    options.engines.push((name.to_owned(), path.into()));
                }
                _ => return Err(USAGE.into()),
            }
        }
        if options.rounds == 0 {
            return Err("--rounds must be at least 1".into());
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, work: &str) -> bool {
        self.only.as_ref().is_none_or(|word| work.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_have_values() {
        let options = parse("--rounds 7 --engine old=/x --engine new=/y --only exec").unwrap();
        assert_eq!((options.rounds, options.engines.len()), (7, 2));
        assert!(options.wants("exec /bin/true") && !options.wants("state"));
        assert!(parse("--rounds").is_err());
        assert!(parse("--rounds 0").is_err());
        assert!(parse("--engine x").is_err());
    }
}
