//! Proof that the seccomp compiler gives the verdicts of libseccomp: both programs are interpreted for the
//! same calls. libseccomp (Debian: libseccomp-dev) is linked, so that without it the test does not build,
//! rather than skip.
//!
//! Whole profiles of engines have to give equal verdicts. Random profiles bring up faults of libseccomp
//! 2.5.4, in about one call of a thousand; there the judges are the text of the profile (`support/oracle.rs`:
//! a verdict has to be the action of a rule that matches) and libseccomp's own account of the filter
//! (`support/pfc.rs`), and each kind of fault is counted and printed. What none of them explains fails the
//! test.

#[path = "support/bpf.rs"]
mod bpf;
#[path = "support/libseccomp.rs"]
mod libseccomp;
#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/pfc.rs"]
mod pfc;

use std::cell::RefCell;

use bpf::{Call, verdict};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator as Operator, LinuxSyscall, LinuxSyscallBuilder,
};
use pfc::Account;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use runtime_core::unstable::plan::seccomp::{Options, SockFilter, compile, compile_with};

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

fn profile(text: &str) -> LinuxSeccomp {
    serde_json::from_str(text).expect("the fixture is a LinuxSeccomp")
}

fn default_profile() -> LinuxSeccomp {
    profile(include_str!("../../spec-tests/fixtures/seccomp-default.json"))
}

fn podman_profile() -> LinuxSeccomp {
    profile(include_str!("../../spec-tests/fixtures/seccomp-podman.json"))
}

/// Takes out the names that the installed libseccomp is too old for, and prints them.
fn without_new_names(mut seccomp: LinuxSeccomp) -> LinuxSeccomp {
    let mut rules = seccomp.syscalls().clone().unwrap_or_default();
    let mut excluded = Vec::new();
    for rule in &mut rules {
        let (known, unknown) = rule
            .names()
            .iter()
            .cloned()
            .partition(|name| libseccomp::knows(name));
        excluded.extend::<Vec<String>>(unknown);
        rule.set_names(known);
    }
    println!("not compared, as this libseccomp does not know them: {excluded:?}");
    seccomp.set_syscalls(Some(rules));
    seccomp
}

fn bare(seccomp: &LinuxSeccomp, native: Arch) -> runtime_core::Result<Vec<SockFilter>> {
    let options = Options {
        native,
        enosys_for_newer_calls: false,
    };
    Ok(compile_with(seccomp, &options)?
        .expect("the profile is not empty")
        .program)
}

/// Values around those that the profile compares with.
fn boundary_values(seccomp: &LinuxSeccomp) -> Vec<u64> {
    let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX];
    for arg in seccomp
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.args().iter().flatten())
    {
        for v in [
            arg.value(),
            arg.value_two().unwrap_or(0),
            arg.value() & arg.value_two().unwrap_or(0),
        ] {
            values.extend([
                v,
                v.wrapping_sub(1),
                v.wrapping_add(1),
                v | 1 << 32,
                v.rotate_left(32),
                v ^ (1 << 63),
                !v,
            ]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Arguments of one kind all over, then one argument after the other with each boundary value, then mixtures.
fn argument_vectors(values: &[u64], mixtures: usize) -> Vec<[u64; 6]> {
    let mut vectors = vec![[0; 6], [u64::MAX; 6]];
    for base in [0, u64::MAX, values[values.len() / 2]] {
        for index in 0..6 {
            for value in values {
                let mut args = [base; 6];
                args[index] = *value;
                vectors.push(args);
            }
        }
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    vectors.extend((0..mixtures).map(|_| {
        std::array::from_fn(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            values[seed as usize % values.len()]
        })
    }));
    vectors
}

/// The selectors of the multiplexers of x86, `socketcall` and `ipc`.
fn multiplexed_vectors() -> Vec<[u64; 6]> {
    (0..=25)
        .flat_map(|selector| [[selector, 0, 0, 0, 0, 0], [selector | 1 << 32, 9, 9, 9, 9, 9]])
        .collect()
}

fn numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..=600).chain(X32_BIT..=X32_BIT + 600).collect();
    numbers.extend([
        1000,
        65535,
        X32_BIT - 1,
        0x7fff_ffff,
        0x8000_0000,
        0xbfff_ffff,
        0xc000_0000,
        u32::MAX - 1,
        u32::MAX,
    ]);
    numbers
}

/// The first calls, at most 5, on which the programs differ, and how many were compared.
fn differences(
    ours: &[SockFilter],
    theirs: &[SockFilter],
    calls: impl Iterator<Item = Call>,
    big_endian: bool,
) -> (Vec<String>, usize) {
    let (mut found, mut compared) = (Vec::new(), 0);
    for call in calls {
        compared += 1;
        let (our, their) = (
            verdict(ours, &call, big_endian),
            verdict(theirs, &call, big_endian),
        );
        if our != their && found.len() < 5 {
            found.push(format!("{call:x?}: ours {our:#x}, libseccomp {their:#x}"));
        }
    }
    (found, compared)
}

fn calls_of<'a>(
    arches: &'a [u32],
    numbers: &'a [u32],
    vectors: &'a [[u64; 6]],
) -> impl Iterator<Item = Call> + 'a {
    arches.iter().flat_map(move |&arch| {
        numbers
            .iter()
            .flat_map(move |&number| vectors.iter().map(move |&args| Call { arch, number, args }))
    })
}

fn compare_whole_profile(name: &str, seccomp: LinuxSeccomp) {
    let seccomp = without_new_names(seccomp);
    let ours = bare(&seccomp, Arch::ScmpArchX86_64).expect("compiles");
    let mut vectors = argument_vectors(&boundary_values(&seccomp), 64);
    vectors.extend(multiplexed_vectors());
    for binary_tree in [false, true] {
        let theirs = libseccomp::build(&seccomp, None, binary_tree)
            .expect("libseccomp takes it")
            .program;
        let numbers = numbers();
        let calls = calls_of(&[X86_64, X86, AARCH64], &numbers, &vectors);
        let (differences, compared) = differences(&ours, &theirs, calls, false);
        println!(
            "{name}: {} instructions, libseccomp {} (binary tree: {binary_tree}); {compared} calls compared: {} numbers \
             on x86_64 with x32, i386 and aarch64, {} argument vectors",
            ours.len(),
            theirs.len(),
            numbers.len(),
            vectors.len()
        );
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
}

#[test]
fn default_profile_gives_the_verdicts_of_libseccomp() {
    compare_whole_profile("seccomp-default.json", default_profile());
}

#[test]
fn podman_profile_gives_the_verdicts_of_libseccomp() {
    compare_whole_profile("seccomp-podman.json", podman_profile());
}

#[test]
fn default_profile_gives_the_verdicts_of_libseccomp_on_other_architectures() {
    let architectures = [
        (Arch::ScmpArchX86_64, 0),
        (Arch::ScmpArchAarch64, 0),
        (Arch::ScmpArchArm, 0),
        (Arch::ScmpArchRiscv64, 0),
        (Arch::ScmpArchPpc, 0),
        (Arch::ScmpArchPpc64, 0),
        (Arch::ScmpArchPpc64le, 0),
        (Arch::ScmpArchS390, 0),
        (Arch::ScmpArchS390x, 0),
        (Arch::ScmpArchMips, 4000),
        (Arch::ScmpArchMipsel, 4000),
        (Arch::ScmpArchMips64, 5000),
        (Arch::ScmpArchMipsel64, 5000),
        (Arch::ScmpArchMips64n32, 6000),
        (Arch::ScmpArchMipsel64n32, 6000),
    ];
    let seccomp = without_new_names(default_profile());
    for (arch, base) in architectures {
        let mut alone = seccomp.clone();
        alone.set_architectures(None);
        let ours = bare(&alone, arch).expect("compiles");
        let theirs = libseccomp::build(&alone, Some(arch), false)
            .expect("libseccomp takes it")
            .program;
        let mut vectors = argument_vectors(&boundary_values(&seccomp), 16);
        vectors.extend(multiplexed_vectors());
        let numbers: Vec<u32> = (base..=base + 600).chain(983_040..983_050).collect();
        let big_endian = libseccomp::is_big_endian(arch);
        let audits = [arch as u32, 0x1234];
        let calls = calls_of(&audits, &numbers, &vectors);
        let (differences, compared) = differences(&ours, &theirs, calls, big_endian);
        println!(
            "{arch}: {} instructions, libseccomp {}; {compared} calls compared",
            ours.len(),
            theirs.len()
        );
        assert!(differences.is_empty(), "{arch}: {differences:#?}");
    }
}

const NAMES: [&str; 12] = [
    "read",
    "personality",
    "socket",
    "clone",
    "ioctl",
    "connect",
    "semop",
    "prctl",
    "mmap2",
    "send",
    "arch_prctl",
    "futex",
];

fn arg() -> impl Strategy<Value = LinuxSeccompArg> {
    let operator = prop::sample::select(vec![
        Operator::ScmpCmpNe,
        Operator::ScmpCmpLt,
        Operator::ScmpCmpLe,
        Operator::ScmpCmpEq,
        Operator::ScmpCmpGe,
        Operator::ScmpCmpGt,
        Operator::ScmpCmpMaskedEq,
    ]);
    let value = prop::sample::select(vec![
        0,
        1,
        5,
        6,
        0xff,
        0x7fff_ffff,
        0xffff_ffff,
        1 << 32,
        5 << 32 | 5,
        5 << 32 | 9,
        u64::MAX,
    ]);
    (0..3_usize, operator, value.clone(), value).prop_map(|(index, op, value, value_two)| {
        LinuxSeccompArgBuilder::default()
            .index(index)
            .op(op)
            .value(value)
            .value_two(value_two)
            .build()
            .expect("complete")
    })
}

fn rule(action: impl Strategy<Value = (Action, Option<u32>)>) -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..4);
    (names, action, prop::collection::vec(arg(), 0..4)).prop_map(|(names, (action, errno), args)| {
        let names = names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut rule = LinuxSyscallBuilder::default()
            .names(names)
            .action(action)
            .args(args)
            .build()
            .expect("complete");
        rule.set_errno_ret(errno);
        rule
    })
}

fn any_action() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop::sample::select(vec![
        (Action::ScmpActAllow, None),
        (Action::ScmpActErrno, None),
        (Action::ScmpActErrno, Some(38)),
        (Action::ScmpActLog, None),
        (Action::ScmpActTrap, None),
        (Action::ScmpActKillProcess, None),
        (Action::ScmpActTrace, Some(7)),
    ])
}

fn random_profile(rule: impl Strategy<Value = LinuxSyscall>) -> impl Strategy<Value = LinuxSeccomp> {
    let architectures = prop::sample::subsequence(
        vec![Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchAarch64],
        0..=3,
    );
    let default = prop::sample::select(vec![
        Action::ScmpActErrno,
        Action::ScmpActKill,
        Action::ScmpActAllow,
    ]);
    (default, architectures, prop::collection::vec(rule, 1..7)).prop_map(|(default, architectures, rules)| {
        LinuxSeccompBuilder::default()
            .default_action(default)
            .architectures(architectures)
            .syscalls(rules)
            .build()
            .expect("complete")
    })
}

/// What the comparison of a random profile came to.
#[derive(Debug, Default)]
struct Tally {
    profiles: usize,
    refused_by_both: usize,
    calls: usize,
    /// libseccomp's program does not do what its own account of the filter says: its code generator is at
    /// fault.
    program_is_not_the_account: usize,
    /// Its account has the default for a call that a rule matches, or an action that no matching rule has:
    /// its tree of rules is at fault (it loses a rule as redundant that has another action, or shares nodes
    /// between rules).
    account_is_not_the_profile: usize,
    /// Calls on which libseccomp picks another matching rule, in a profile of which it lost or mixed up a
    /// rule.
    consequences: usize,
    /// libseccomp answers EEXIST to rules that can be told apart.
    refused_by_libseccomp_only: usize,
    refused_by_us_only: usize,
    /// Calls on which libseccomp, with no fault to see, picks another matching rule.
    unexplained: usize,
    examples: Vec<String>,
}

fn architecture_of(call: &Call, seccomp: &LinuxSeccomp) -> Option<Arch> {
    let arch = match call.arch {
        X86_64 if call.number >= X32_BIT => Arch::ScmpArchX32,
        X86_64 => return Some(Arch::ScmpArchX86_64),
        X86 => Arch::ScmpArchX86,
        _ => Arch::ScmpArchAarch64,
    };
    seccomp
        .architectures()
        .iter()
        .flatten()
        .any(|listed| *listed == arch)
        .then_some(arch)
}

fn compare_random(seccomp: &LinuxSeccomp, tally: &mut Tally) -> Result<(), TestCaseError> {
    tally.profiles += 1;
    let ours = bare(seccomp, Arch::ScmpArchX86_64);
    let theirs = libseccomp::build(seccomp, None, false);
    let (ours, theirs) = match (ours, theirs) {
        (Err(_), Err(errno)) => {
            prop_assert_eq!(errno, libc::EEXIST);
            tally.refused_by_both += 1;
            return Ok(());
        }
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Ok(_), Err(errno)) => {
            prop_assert_eq!(errno, libc::EEXIST);
            tally.refused_by_libseccomp_only += 1;
            return Ok(());
        }
        (Err(error), Ok(_)) => {
            tally.refused_by_us_only += 1;
            tally.examples.push(format!("{error}: {seccomp:?}"));
            return Ok(());
        }
    };
    let default = libseccomp::action(seccomp.default_action(), None);
    let (mut faults, mut others) = (0, 0);
    let account = Account::parse(&theirs.account, default);
    let mut vectors = argument_vectors(&boundary_values(seccomp), 200);
    vectors.extend(multiplexed_vectors());
    // Of all architectures: the calls in NAMES, the multiplexers, and a few that no rule names.
    let mut numbers = vec![
        0, 3, 16, 29, 41, 42, 45, 54, 56, 64, 65, 98, 102, 117, 120, 135, 136, 157, 158, 172, 192, 198,
    ];
    numbers.extend([202, 203, 220, 240, 359, 362, 384, 434, 600, 7777]);
    let x32: Vec<u32> = numbers
        .iter()
        .map(|number| number | X32_BIT)
        .chain([X32_BIT | 514])
        .collect();
    numbers.extend(x32);
    numbers.extend([0x8000_0000, u32::MAX]);
    for call in calls_of(&[X86_64, X86, AARCH64], &numbers, &vectors) {
        tally.calls += 1;
        let (our, their) = (
            verdict(&ours, &call, false),
            verdict(&theirs.program, &call, false),
        );
        let Some(arch) = architecture_of(&call, seccomp) else {
            prop_assert_eq!(our, their, "{:x?}", call);
            continue;
        };
        let matching = oracle::matching(seccomp, arch, &call);
        let sound = |verdict| matching.contains(&verdict) || (matching.is_empty() && verdict == default);
        prop_assert!(sound(our), "{:x?}: {:#x} is not among {:x?}", call, our, matching);
        if our != their {
            let accounted = account.verdict(&call);
            let count = match accounted {
                _ if their != accounted && our == accounted => &mut tally.program_is_not_the_account,
                _ if !sound(accounted) => &mut faults,
                _ => &mut others,
            };
            *count += 1;
            if *count == 1 {
                tally.examples.push(format!(
                    "{call:x?} ours {our:#x}, libseccomp {their:#x}, its account {accounted:#x}, rules {matching:x?}: {seccomp:?}"
                ));
            }
        }
    }
    tally.account_is_not_the_profile += faults;
    *if faults > 0 {
        &mut tally.consequences
    } else {
        &mut tally.unexplained
    } += others;
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100)
}

fn run(name: &str, strategy: impl Strategy<Value = LinuxSeccomp>) -> Tally {
    let tally = RefCell::new(Tally::default());
    let config = ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same profiles in every run; PROPTEST_CASES asks for more of them.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, random).run(&strategy, |seccomp| {
        compare_random(&seccomp, &mut tally.borrow_mut())
    });
    let tally = tally.into_inner();
    println!("{name}: {tally:#?}");
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
    tally
}

#[test]
fn random_profiles_with_one_action_give_the_verdicts_of_libseccomp() {
    let tally = run(
        "one action",
        random_profile(rule(Just((Action::ScmpActLog, None)))),
    );
    assert_eq!((tally.unexplained, tally.refused_by_us_only), (0, 0));
}

#[test]
fn random_profiles_with_many_actions_give_the_verdicts_of_libseccomp() {
    let tally = run("many actions", random_profile(rule(any_action())));
    assert_eq!((tally.unexplained, tally.refused_by_us_only), (0, 0));
}

/// Loads the default profile in a child process and tries some calls; the child reports the first surprise by
/// its exit status.
#[test]
fn kernel_takes_the_default_profile_and_acts_on_it() {
    // Call, first argument, and the errno that is due; 0 for success.
    let cases = [
        (libc::SYS_kexec_load, 0, libc::EPERM),
        (libc::SYS_clone3, 0, libc::ENOSYS),
        (libc::SYS_getpid, 0, 0),
        (libc::SYS_personality, 0xffff_ffff, 0),
        (libc::SYS_personality, 0x0040_0000, libc::EPERM),
        (libc::SYS_socket, 40, libc::EPERM),
        (libc::SYS_unshare, 0, libc::EPERM),
        (1000, 0, libc::ENOSYS),
    ];
    let plan = compile(&default_profile())
        .expect("compiles")
        .expect("is not empty");
    let program = libc::sock_fprog {
        len: plan.program.len() as u16,
        filter: plan.program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the child makes system calls only, and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        let status = try_calls(&program, plan.flags, &cases);
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: the child is ours; the status is a live integer.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    assert!(
        libc::WIFEXITED(status),
        "the child was killed by signal {}",
        libc::WTERMSIG(status)
    );
    match libc::WEXITSTATUS(status) {
        0 => println!(
            "loaded {} instructions with flags {:#x}; {cases:?}",
            plan.program.len(),
            plan.flags
        ),
        100 => panic!("no_new_privs"),
        101 => panic!("the kernel refuses the program"),
        case => panic!("case {case} of {cases:?} answered otherwise"),
    }
}

fn try_calls(program: &libc::sock_fprog, flags: u32, cases: &[(i64, u64, i32)]) -> i32 {
    // SAFETY: plain values.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return 100;
    }
    let program: *const libc::sock_fprog = program;
    // SAFETY: the program and what it points to live on; the kernel only reads them.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) } != 0 {
        return 101;
    }
    for (at, (number, argument, errno)) in (1..).zip(cases) {
        // SAFETY: none of the cases touches memory: they fail, or take plain values.
        let result = unsafe { libc::syscall(*number, *argument, 0_u64, 0_u64, 0_u64, 0_u64) };
        let got = match result {
            // Allocates nothing: it reads the thread's errno.
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
            _ => 0,
        };
        if got != *errno {
            return at;
        }
    }
    0
}
