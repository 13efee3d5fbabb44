//! Runs in: SUITE. TAP and JUnit output, which libtest-mimic does not have.

use std::time::Duration;

/// [`Record::place`] of what did not run in a machine.
pub(crate) const HOST: &str = "host";

/// How one test ended.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    /// With the reason: unsupported on this host, or a known difference.
    Skipped(String),
}

/// One finished test.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) time: Duration,
    /// Where it ran: host, or a machine.
    pub(crate) place: &'static str,
}

/// Before the name of the runtime, in TAP.
pub(crate) const TAP_OF: &str = "# of ";

/// Test Anything Protocol, version 13. A comment says what `runtime` calls itself, for `--recorded`.
pub(crate) fn tap(runtime: &str, records: &[Record]) -> String {
    let mut text = format!("TAP version 13\n{TAP_OF}{runtime}\n1..{}\n", records.len());
    for (index, record) in records.iter().enumerate() {
        let (number, name) = (index + 1, &record.name);
        if record.place != HOST {
            text += &format!("# in the {}\n", record.place);
        }
        match &record.verdict {
            Verdict::Passed => text += &format!("ok {number} - {name}\n"),
            Verdict::Skipped(reason) => {
                text += &format!("ok {number} - {name} # SKIP {}\n", one_line(reason))
            }
            Verdict::Failed(why) => {
                text += &format!("not ok {number} - {name}\n");
                for line in why.lines() {
                    text += &format!("# {line}\n");
                }
            }
        }
    }
    text
}

/// JUnit XML, one suite.
pub(crate) fn junit(records: &[Record]) -> String {
    let count = |f: fn(&Verdict) -> bool| records.iter().filter(|r| f(&r.verdict)).count();
    let failed = count(|v| matches!(v, Verdict::Failed(_)));
    let skipped = count(|v| matches!(v, Verdict::Skipped(_)));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"spec-tests\" tests=\"{}\" \
         failures=\"{failed}\" skipped=\"{skipped}\">\n",
        records.len()
    );
    for record in records {
        let (topic, _) = record.name.split_once('/').unwrap_or(("", ""));
        let inside = match &record.verdict {
            Verdict::Passed => String::new(),
            Verdict::Skipped(why) => format!("<skipped message=\"{}\"/>", escape(why)),
            Verdict::Failed(why) => format!("<failure>{}</failure>", escape(why)),
        };
        text += &format!(
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"><properties><property name=\"place\" \
             value=\"{}\"/></properties>{inside}</testcase>\n",
            escape(topic),
            escape(&record.name),
            record.time.as_secs_f64(),
            record.place
        );
    }
    text + "</testsuite>\n"
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no place for other control characters.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |name: &str, verdict| Record {
            name: name.into(),
            verdict,
            time: Duration::ZERO,
            place: HOST,
        };
        vec![
            record("a/b", Verdict::Passed),
            record("a/c", Verdict::Failed("<x>\ny".into())),
            record("a/d", Verdict::Skipped("no\ncpu".into())),
        ]
    }

    #[test]
    fn tap_has_a_plan_and_reasons() {
        let text = tap("it", &records());
        assert!(text.starts_with("TAP version 13\n# of it\n1..3\nok 1 - a/b\nnot ok 2 - a/c\n# <x>\n# y\n"));
        assert!(text.ends_with("ok 3 - a/d # SKIP no cpu\n"));
    }

    #[test]
    fn junit_escapes() {
        let text = junit(&records());
        assert!(text.contains("failures=\"1\" skipped=\"1\""));
        assert!(text.contains("&lt;x&gt;"));
    }
}
