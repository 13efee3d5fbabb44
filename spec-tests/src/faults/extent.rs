//! Runs in: SUITE. Which faults a run is to make: `--faults` and `--fault`.

use super::{Call, Fault, Place, What, can_fail, name_of_call};
use std::collections::BTreeMap;

/// Which of all faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every so many of them.
    Sample,
    Whole,
    /// Those that have all these parts; `*` is in every one.
    Only {
        process: String,
        call: String,
        what: String,
    },
}

const ANY: &str = "*";

impl Extent {
    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "sample" => Ok(Self::Sample),
            "whole" => Ok(Self::Whole),
            _ => Err(format!("--faults {name}: neither sample nor whole")),
        }
    }

    /// `PROCESS:CALL:WHAT`.
    pub(crate) fn one(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [process, call, what] = parts[..] else {
            return Err(format!("--fault {text}: not PROCESS:CALL:WHAT"));
        };
        let known = what == ANY || What::ALL.iter().any(|known| known.to_string() == what);
        if !known {
            return Err(format!("--fault {text}: no such fault: {what}"));
        }
        Ok(Self::Only {
            process: process.to_owned(),
            call: call.to_owned(),
            what: what.to_owned(),
        })
    }

    /// What is wrong where certain faults were asked for and none was made: nothing was tested then.
    pub(crate) fn unmade(&self, made: usize, not_reached: usize) -> Option<String> {
        let reason = match (self, made, not_reached) {
            (Self::Only { .. }, 0, 0) => "no call that there is can fail like that",
            (Self::Only { .. }, 0, _) => "the call was not made this time",
            _ => return None,
        };
        Some(format!("{}: {reason}", self.words().join(" ")))
    }

    /// As options of the command line.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::Sample => Vec::new(),
            Self::Whole => vec!["--faults whole".to_owned()],
            Self::Only { process, call, what } => vec![format!("--fault '{process}:{call}:{what}'")],
        }
    }

    /// The faults of a command whose processes have called this, each with the call that it is to hit; of a
    /// sample every `stride`-th.
    pub(crate) fn faults(&self, calls: &BTreeMap<String, Vec<Call>>, stride: usize) -> Vec<(Fault, Call)> {
        let mut faults = Vec::new();
        for (process, calls) in calls {
            for (index, call) in calls.iter().enumerate() {
                let Some(place) = Place::of_last(&calls[..=index]) else {
                    continue;
                };
                let is_possible = |what: &What| match what {
                    What::Errno(errno) => can_fail(*call, *errno),
                    What::Kill => true,
                    What::Rename => false,
                };
                for what in What::ALL.into_iter().filter(is_possible) {
                    let fault = Fault {
                        process: process.clone(),
                        nth: index + 1,
                        place,
                        what,
                    };
                    faults.push((fault, *call));
                }
            }
        }
        match self {
            Self::Sample => faults.into_iter().skip(stride / 2).step_by(stride).collect(),
            Self::Whole => faults,
            Self::Only { process, call, what } => {
                let fits = |part: &str, text: String| part == ANY || part == text;
                faults.retain(|(fault, hit)| {
                    fits(process, fault.process.clone())
                        && (fits(call, fault.nth.to_string()) || *call == name_of_call(hit.number))
                        && fits(what, fault.what.to_string())
                });
                faults
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> BTreeMap<String, Vec<Call>> {
        let call = |number: libc::c_long| Call {
            number: number as i32,
            first_argument: 0,
        };
        let of_runtime = vec![call(libc::SYS_openat), call(libc::SYS_close)];
        let of_init = vec![call(libc::SYS_openat)];
        [
            ("RUNTIME".to_owned(), of_runtime),
            ("RUNTIME.1".to_owned(), of_init),
        ]
        .into()
    }

    fn made(text: &str) -> Result<Vec<String>, String> {
        let faults = Extent::one(text)?.faults(&calls(), 1);
        Ok(faults.iter().map(|(fault, _)| fault.to_string()).collect())
    }

    #[test]
    fn every_call_fails_in_every_way_but_close_which_cannot() {
        assert_eq!(Extent::Whole.faults(&calls(), 1).len(), 6 + 1 + 6);
        assert_eq!(Extent::Sample.faults(&calls(), 5).len(), 3);
    }

    #[test]
    fn a_fault_that_was_not_made_is_no_success() -> Result<(), String> {
        let one = Extent::one("RUNTIME:*:EIO")?;
        assert_eq!(
            one.unmade(0, 0).as_deref(),
            Some("--fault 'RUNTIME:*:EIO': no call that there is can fail like that")
        );
        assert_eq!(
            one.unmade(0, 1).as_deref(),
            Some("--fault 'RUNTIME:*:EIO': the call was not made this time")
        );
        assert_eq!(one.unmade(1, 1), None);
        assert_eq!(Extent::Sample.unmade(0, 0), None);
        Ok(())
    }

    #[test]
    fn one_fault_by_number_and_by_name() -> Result<(), String> {
        assert_eq!(made("RUNTIME.1:1:EIO")?, ["RUNTIME.1:1:EIO"]);
        assert_eq!(made("*:openat:KILL")?, ["RUNTIME:1:KILL", "RUNTIME.1:1:KILL"]);
        assert_eq!(made("RUNTIME:2:*")?, ["RUNTIME:2:KILL"]);
        assert!(made("RUNTIME:2").is_err());
        assert!(made("RUNTIME:2:EWRONG").is_err());
        Ok(())
    }
}
