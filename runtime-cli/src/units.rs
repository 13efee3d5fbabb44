//! Runs in: RUNTIME. Numbers with units, spelled as Go programs spell them: sizes (`1.5g`) and durations
//! (`1m30s`). Pure.

use std::time::Duration;

/// A number of bytes: decimal, with an optional `k`, `m`, `g`, `t` or `p` (powers of 1024), and `b` or `ib`
/// after that. `None` if it is none of these, negative, or too large.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let unit = unit.to_ascii_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1024_i64.checked_pow(power)?;
    // Whole numbers exactly; a float has 53 bits.
    if let Ok(whole) = number.parse::<i64>() {
        return (whole >= 0).then(|| whole.checked_mul(factor)).flatten();
    }
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let size = number.parse::<f64>().ok()? * factor as f64;
    (size < i64::MAX as f64).then_some(size as i64)
}

/// A duration: numbers with `h`, `m`, `s`, `ms`, `us` or `ns` after each. `None` if it is anything else, or
/// negative.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut is_empty = true;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let number = number.parse::<f64>().ok()?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        is_empty = false;
        rest = tail;
    }
    (!is_empty).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5G", 3 << 29),
            ("4 MB", 4 << 20),
            ("2t", 2 << 40),
            ("9223372036854775807", i64::MAX),
            ("0.5p", 1 << 49),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "-1k",
            "1x",
            "1kk",
            "ib",
            "1ib",
            "1.2.3",
            "9223372036854775808",
            "8192p",
            "1e3",
            "infm",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "5d",
            "5s3",
            "1e400h",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
