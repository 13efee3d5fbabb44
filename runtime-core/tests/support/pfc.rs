//! libseccomp's own account of a filter, `seccomp_export_pfc`: its rules as nested `if`s, before they become
//! BPF.

use crate::bpf::Call;

/// One line of the account.
#[derive(Debug)]
enum Line {
    If(Test),
    Else,
    Action(u32),
}

/// `(subject & mask) relation value`.
#[derive(Debug)]
struct Test {
    subject: Subject,
    mask: u32,
    relation: String,
    value: u32,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Arch,
    Number,
    Argument { index: usize, high: bool },
}

/// The account, parsed: each line with its depth.
#[derive(Debug)]
pub(crate) struct Account {
    lines: Vec<(usize, Line)>,
    default: u32,
}

impl Account {
    pub(crate) fn parse(text: &str, default: u32) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(|line| {
                (
                    (line.len() - line.trim_start().len()) / 2,
                    parse_line(line.trim()),
                )
            })
            // Depth 0 and 1: the default action of an architecture, and that for other architectures.
            .filter(|(depth, line)| !(*depth < 2 && matches!(line, Line::Action(_))))
            .collect();
        Self { lines, default }
    }

    /// The action for a call from an architecture that the filter has.
    pub(crate) fn verdict(&self, call: &Call) -> u32 {
        self.block(0, self.lines.len(), call).unwrap_or(self.default)
    }

    /// The first action that lines `from..to`, all of one block, come to.
    fn block(&self, mut from: usize, to: usize, call: &Call) -> Option<u32> {
        while from < to {
            let (depth, line) = &self.lines[from];
            let end = |start: usize| (start..to).find(|at| self.lines[*at].0 <= *depth).unwrap_or(to);
            let test = match line {
                Line::Action(action) => return Some(*action),
                Line::If(test) => test,
                Line::Else => panic!("else without if at line {from}"),
            };
            let then_end = end(from + 1);
            let has_else = then_end < to && matches!(self.lines[then_end], (at, Line::Else) if at == *depth);
            let else_end = if has_else { end(then_end + 1) } else { then_end };
            let found = match test.holds(call) {
                true => self.block(from + 1, then_end, call),
                false if has_else => self.block(then_end + 1, else_end, call),
                false => None,
            };
            if found.is_some() {
                return found;
            }
            from = else_end;
        }
        None
    }
}

impl Test {
    fn holds(&self, call: &Call) -> bool {
        let subject = match self.subject {
            Subject::Arch => call.arch,
            Subject::Number => call.number,
            Subject::Argument { index, high: true } => (call.args[index] >> 32) as u32,
            Subject::Argument { index, high: false } => call.args[index] as u32,
        };
        match self.relation.as_str() {
            "==" => subject & self.mask == self.value,
            ">" => subject & self.mask > self.value,
            ">=" => subject & self.mask >= self.value,
            other => panic!("relation {other}"),
        }
    }
}

fn parse_line(line: &str) -> Line {
    if line == "else" {
        return Line::Else;
    }
    if let Some(action) = line.strip_prefix("action ") {
        return Line::Action(parse_action(action.trim_end_matches(';')));
    }
    let test = line
        .strip_prefix("if (")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("{line}"));
    let words: Vec<&str> = test.split_whitespace().collect();
    let (mask, relation, value) = match words[..] {
        [_, relation, value] => (u32::MAX, relation, value),
        [_, "&", mask, relation, value] => (parse_number(mask), relation, value),
        _ => panic!("{line}"),
    };
    let test = Test {
        subject: parse_subject(words[0]),
        mask,
        relation: relation.to_owned(),
        value: parse_number(value),
    };
    Line::If(test)
}

fn parse_subject(word: &str) -> Subject {
    match word {
        "$arch" => Subject::Arch,
        "$syscall" => Subject::Number,
        _ => {
            let index = word.strip_prefix("$a").and_then(|rest| rest[..1].parse().ok());
            Subject::Argument {
                index: index.unwrap_or_else(|| panic!("{word}")),
                high: word.ends_with(".hi32"),
            }
        }
    }
}

fn parse_number(text: &str) -> u32 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{text}"))
}

fn parse_action(text: &str) -> u32 {
    let (name, data) = match text.split_once('(') {
        Some((name, data)) => (name, parse_number(data.trim_end_matches(')'))),
        None => (text, 0),
    };
    data | match name {
        "ALLOW" => 0x7fff_0000,
        "LOG" => 0x7ffc_0000,
        "TRACE" => 0x7ff0_0000,
        "ERRNO" => 0x0005_0000,
        "TRAP" => 0x0003_0000,
        "KILL" => 0,
        "KILL_PROCESS" => 0x8000_0000,
        _ => panic!("action {text}"),
    }
}
