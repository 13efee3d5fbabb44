//! Any JSON as `linux.seccomp`: a program of at most 4096 instructions whose every jump lands inside it, or
//! an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::plan::seccomp::{SockFilter, compile};
use serde_json::Value;

/// Instruction classes of `linux/bpf_common.h`.
const CLASS: u16 = 0x07;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
/// `BPF_JMP | BPF_JA`.
const JUMP_ALWAYS: u16 = 0x05;

fuzz_target!(|bytes: &[u8]| {
    let Ok(seccomp) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut document = onggi_fuzz::document();
    document["linux"]["seccomp"] = seccomp;
    let Ok(json) = serde_json::to_vec(&document) else {
        return;
    };
    let Ok(config) = runtime_core::unstable::spec::parse(json) else {
        return;
    };
    let linux = config.spec.linux().as_ref();
    let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return;
    };
    // Before validation: the compiler is a public function, and must stand by itself.
    if let Ok(Some(plan)) = compile(seccomp) {
        check(&plan.program);
    }
});

/// The rules of the kernel's own checker (`bpf_check_classic`) about the flow of a program.
fn check(program: &[SockFilter]) {
    assert!(!program.is_empty() && program.len() <= 4096);
    let last = program.len() - 1;
    for (at, instruction) in program.iter().enumerate() {
        if instruction.code & CLASS != JUMP {
            continue;
        }
        let furthest = match instruction.code {
            JUMP_ALWAYS => instruction.k as usize,
            _ => usize::from(instruction.jt.max(instruction.jf)),
        };
        assert!(at + 1 + furthest <= last, "jump out of the program at {at}");
    }
    assert_eq!(program[last].code & CLASS, RETURN, "the end is a return");
}
