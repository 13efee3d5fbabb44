//! Runs in: RUNTIME. Lists of numbers as the kernel writes them, `0-3,7`: processors and memory nodes.

use std::ops::RangeInclusive;

/// Reads a list of numbers and ranges, in the order given; spaces around the parts and empty parts are
/// allowed, as the specification allows them for `execCPUAffinity`. `None` if it is no such list, or a range
/// runs backwards.
pub fn parse_ranges(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |text: &str| -> Option<u32> {
        let text = text.trim();
        // `parse` takes a leading plus.
        if text.starts_with('+') {
            None
        } else {
            text.parse().ok()
        }
    };
    let mut ranges = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return None;
        }
        ranges.push(first..=last);
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_ranges(""), Some(vec![]));
        assert_eq!(parse_ranges("0-3, 7"), Some(vec![0..=3, 7..=7]));
        assert_eq!(parse_ranges("2,"), Some(vec![2..=2]));
        for bad in ["3-1", "a", "1-", "-1", "1--2", "+1", "4294967296", "1 2"] {
            assert_eq!(parse_ranges(bad), None, "{bad}");
        }
    }
}
