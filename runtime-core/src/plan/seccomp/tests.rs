//! Runs in: RUNTIME. Tests of the translation of a profile.

use oci_spec::runtime::{Arch, LinuxSeccomp};
use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn plan(value: Value) -> SeccompPlan {
    compile(&profile(value)).unwrap().unwrap()
}

fn error(value: Value) -> Error {
    let error = compile(&profile(value)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error
}

fn with_rule(rule: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
}

/// What the program returns for a call with these low words of arguments; no more of BPF than the compiler
/// writes.
fn verdict(plan: &SeccompPlan, arch: Arch, number: u32, args: [u32; 2]) -> u32 {
    let words = [number, arch as u32, 0, 0, args[0], 0, args[1], 0];
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let SockFilter { code, jt, jf, k } = plan.program[at];
        let skip = |holds| usize::from(if holds { jt } else { jf });
        at += 1 + match code {
            0x20 => {
                accumulator = words[k as usize / 4];
                0
            }
            0x54 => {
                accumulator &= k;
                0
            }
            0x05 => k as usize,
            0x15 => skip(accumulator == k),
            0x25 => skip(accumulator > k),
            0x35 => skip(accumulator >= k),
            0x06 => return k,
            other => panic!("{other:#x}"),
        };
    }
}

#[test]
fn every_action_returns_its_value() {
    let cases = [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0001),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_ALLOW", 0x7fff_0000),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
    ];
    for (action, value) in cases {
        let plan = plan(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7, "listenerPath": "/s",
            "syscalls": [{"names": ["getpid"], "action": action}],
        }));
        let number = Syscall::named("getpid")
            .unwrap()
            .number(arch::of(NATIVE).unwrap())
            .unwrap();
        assert_eq!(verdict(&plan, NATIVE, number, [0; 2]), value, "{action}");
        assert_eq!(
            verdict(&plan, NATIVE, number - 1, [0; 2]),
            0x0005_0007,
            "{action}"
        );
        // Newer than all that is named, for the native architecture also where none is.
        assert_eq!(
            verdict(&plan, NATIVE, number + 1, [0; 2]),
            0x0005_0026,
            "{action}"
        );
        assert_eq!(
            verdict(&plan, Arch::ScmpArchParisc, number, [0; 2]),
            0,
            "{action}"
        );
    }
    assert_eq!(cases.len(), ACTIONS.len());
}

#[test]
fn errno_is_the_rules_own_or_an_error() {
    let errno =
        |action: &str, errno: u32| with_rule(json!({"names": ["a"], "action": action, "errnoRet": errno}));
    assert!(compile(&profile(errno("SCMP_ACT_ERRNO", 4095))).is_ok());
    assert!(compile(&profile(errno("SCMP_ACT_TRACE", 65535))).is_ok());
    let text = error(errno("SCMP_ACT_ALLOW", 1)).to_string();
    assert_eq!(
        text,
        "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW does not take an errno"
    );
    assert_eq!(
        error(errno("SCMP_ACT_ERRNO", 4096)).field(),
        Some("linux.seccomp.syscalls[0].errnoRet")
    );
    let default = error(json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}));
    assert_eq!(default.field(), Some("linux.seccomp.defaultErrnoRet"));
}

#[test]
fn notify_needs_a_listener_and_may_not_be_the_default() {
    let notify = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
    assert_eq!(
        error(with_rule(notify.clone())).field(),
        Some("linux.seccomp.listenerPath")
    );
    let mut complete = with_rule(notify);
    complete["listenerPath"] = json!("/run/agent.sock");
    complete["listenerMetadata"] = json!("m");
    let complete = plan(complete);
    assert_eq!(complete.flags, FLAG_SPEC_ALLOW | FLAG_NEW_LISTENER);
    assert_eq!(
        complete.listener,
        Some(SeccompListener {
            path: "/run/agent.sock".into(),
            metadata: "m".into()
        })
    );

    let default = error(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/s"}));
    assert!(
        default.to_string().contains("cannot be used as default action"),
        "{default}"
    );
    let write = error(with_rule(
        json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}),
    ));
    assert!(
        write.to_string().contains("cannot be used for the write syscall"),
        "{write}"
    );
    let unused = plan(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/s"}));
    assert_eq!((unused.listener, unused.flags), (None, FLAG_SPEC_ALLOW));
}

#[test]
fn flags_are_those_listed_and_spec_allow_if_there_is_no_list() {
    let flags = |list: Value, action: &str| {
        plan(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "flags": list, "listenerPath": "/s",
            "syscalls": [{"names": ["mkdir"], "action": action}],
        }))
        .flags
    };
    assert_eq!(flags(Value::Null, "SCMP_ACT_ALLOW"), FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!([]), "SCMP_ACT_ALLOW"), 0);
    assert_eq!(flags(json!([]), "SCMP_ACT_NOTIFY"), FLAG_NEW_LISTENER);
    let all = FLAG_LOG | FLAG_SPEC_ALLOW;
    assert_eq!(flags(json!(FLAGS), "SCMP_ACT_ALLOW"), all);
    assert_eq!(
        flags(json!(FLAGS), "SCMP_ACT_NOTIFY"),
        all | FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV
    );
}

#[test]
fn an_empty_profile_is_no_filter() {
    assert_eq!(compile(&LinuxSeccomp::default()).unwrap(), None);
}

#[test]
fn public_lists_are_sorted_and_name_what_config_json_can_hold() {
    assert!(ACTIONS.is_sorted() && OPERATORS.is_sorted());
    for name in architecture_names() {
        assert!(arch::of(name.parse().unwrap()).is_some(), "{name}");
    }
    assert!(OPERATORS.iter().all(|name| name.parse::<Operator>().is_ok()));
    assert!(FLAGS.iter().all(|name| name.parse::<Flag>().is_ok()));
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let plan = plan(with_rule(
        json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"},
        ]}),
    ));
    let number = Syscall::named("ioctl")
        .unwrap()
        .number(arch::of(NATIVE).unwrap())
        .unwrap();
    for (args, allowed) in [([1, 0], true), ([5, 0], true), ([0, 9], true), ([0, 0], false)] {
        assert_eq!(
            verdict(&plan, NATIVE, number, args) == 0x7fff_0000,
            allowed,
            "{args:?}"
        );
    }
}

#[test]
fn contradictions_and_impossible_arguments_are_errors() {
    let rule = |action: &str| json!({"names": ["ioctl"], "action": action, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]});
    let two = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("SCMP_ACT_ALLOW"), rule("SCMP_ACT_LOG")]});
    assert_eq!(error(two).field(), Some("linux.seccomp.syscalls[1]"));
    let mut seventh = rule("SCMP_ACT_ALLOW");
    seventh["args"][0]["index"] = json!(6);
    assert_eq!(
        error(with_rule(seventh)).field(),
        Some("linux.seccomp.syscalls[0].args[0].index")
    );
    assert_eq!(
        error(with_rule(json!({"names": [""], "action": "SCMP_ACT_LOG"}))).field(),
        Some("linux.seccomp.syscalls[0].names")
    );
}

#[test]
fn a_profile_that_is_too_long_for_the_kernel_is_an_error() {
    let rules: Vec<Value> = (0..3000)
        .map(|value| {
            let arg = json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [arg]})
        })
        .collect();
    let enough = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules[..1000]});
    let number = Syscall::named("ioctl")
        .unwrap()
        .number(arch::of(NATIVE).unwrap())
        .unwrap();
    let long = plan(enough);
    for (value, allowed) in [(0, true), (500, true), (999, true), (1000, false)] {
        assert_eq!(
            verdict(&long, NATIVE, number, [value, 0]) == 0x7fff_0000,
            allowed,
            "{value}"
        );
    }
    let many: Vec<Value> = rules
        .iter()
        .cloned()
        .chain(rules.iter().cloned().map(|mut rule| {
            rule["names"] = json!(["prctl"]);
            rule
        }))
        .collect();
    let text = error(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": many})).to_string();
    assert!(text.contains("the kernel takes 4096"), "{text}");
}

mod newer_calls {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    const X32: u32 = 0x4000_0000;

    fn verdicts(architectures: Value, names: Value, native: Arch, calls: &[(Arch, u32)]) -> Vec<u32> {
        let seccomp = profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures,
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        }));
        let plan = compile_with(
            &seccomp,
            &Options {
                native,
                enosys_for_newer_calls: true,
            },
        )
        .unwrap()
        .unwrap();
        calls
            .iter()
            .map(|(arch, number)| verdict(&plan, *arch, *number, [0; 2]))
            .collect()
    }

    #[test]
    fn x86_64_alone_keeps_x32_out() {
        let all = [
            5,
            39,
            40,
            X32 - 1,
            X32,
            2 * X32 - 1,
            2 * X32,
            3 * X32 - 1,
            3 * X32,
            u32::MAX - 1,
            u32::MAX,
        ];
        let calls = all.map(|number| (Arch::ScmpArchX86_64, number));
        let got = verdicts(
            json!(["SCMP_ARCH_X86_64"]),
            json!(["getpid"]),
            Arch::ScmpArchX86_64,
            &calls,
        );
        assert_eq!(
            got,
            [EPERM, ALLOW, ENOSYS, ENOSYS, 0, 0, ENOSYS, ENOSYS, 0, 0, EPERM]
        );
    }

    #[test]
    fn x32_has_its_own_newest_call() {
        let all = [
            512,
            513,
            X32 + 39,
            X32 + 512,
            X32 + 520,
            X32 + 521,
            2 * X32,
            u32::MAX,
        ];
        let calls = all.map(|number| (Arch::ScmpArchX86_64, number));
        let listed = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]);
        let got = verdicts(listed, json!(["getpid", "execve"]), Arch::ScmpArchX86_64, &calls);
        assert_eq!(got, [ENOSYS, ENOSYS, ALLOW, EPERM, ALLOW, ENOSYS, ENOSYS, ENOSYS]);
    }

    #[test]
    fn i386_has_its_own_and_unlisted_architectures_have_none() {
        let calls = [
            (Arch::ScmpArchX86, 21),
            (Arch::ScmpArchX86, 20),
            (Arch::ScmpArchX86_64, 40),
        ];
        let got = verdicts(
            json!(["SCMP_ARCH_X86"]),
            json!(["getpid"]),
            Arch::ScmpArchX86_64,
            &calls,
        );
        assert_eq!(got, [ENOSYS, ALLOW, EPERM]);
    }

    #[test]
    fn multiplexed_calls_count_with_both_their_numbers() {
        let calls = [
            (Arch::ScmpArchX86, 358),
            (Arch::ScmpArchX86, 359),
            (Arch::ScmpArchX86, 360),
        ];
        let got = verdicts(
            json!(["SCMP_ARCH_X86"]),
            json!(["read", "socket"]),
            Arch::ScmpArchX86_64,
            &calls,
        );
        assert_eq!(got, [EPERM, ALLOW, ENOSYS]);
    }

    #[test]
    fn s390x_answers_for_calls_that_come_as_number_zero() {
        let calls = [0, 1, 4, 5].map(|number| (Arch::ScmpArchS390x, number));
        let got = verdicts(
            json!(["SCMP_ARCH_S390X"]),
            json!(["write"]),
            Arch::ScmpArchS390x,
            &calls,
        );
        assert_eq!(got, [ENOSYS, EPERM, ALLOW, ENOSYS]);
    }

    #[test]
    fn permissive_profiles_and_those_with_enosys_are_left_alone() {
        for (default, errno, value) in [
            ("SCMP_ACT_ERRNO", json!(38), ENOSYS),
            ("SCMP_ACT_LOG", Value::Null, 0x7ffc_0000),
            ("SCMP_ACT_TRACE", Value::Null, 0x7ff0_0001),
            ("SCMP_ACT_ALLOW", Value::Null, ALLOW),
        ] {
            let seccomp = profile(json!({
                "defaultAction": default, "defaultErrnoRet": errno, "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_TRAP"}],
            }));
            let native = Arch::ScmpArchX86_64;
            let with = compile_with(
                &seccomp,
                &Options {
                    native,
                    enosys_for_newer_calls: true,
                },
            )
            .unwrap()
            .unwrap();
            let without = compile_with(
                &seccomp,
                &Options {
                    native,
                    enosys_for_newer_calls: false,
                },
            )
            .unwrap()
            .unwrap();
            assert_eq!(with, without, "{default}");
            assert_eq!(verdict(&with, native, 600, [0; 2]), value);
        }
    }
}
