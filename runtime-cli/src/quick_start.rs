//! Runs in: RUNTIME, between the entry of the process and `main`. Starts a static glibc, 2.36 or 2.41, without the questions that it
//! asks the processor (`cpuid`).
//!
//! glibc asks 68 of them to choose among its versions of memcpy and to learn the sizes of caches. Each is a trap into the
//! hypervisor of a virtual machine: together a sixth of the time of `run`. The answers would serve copies of
//! megabytes, which this program never makes, so it takes the versions that every x86-64 has.
//!
//! This is `__libc_start_main` (csu/libc-start.c, the static case) step by step, with the same functions of the C library,
//! except for what is named here. It depends on the version: build.rs compiles it in for no others, and then
//! `early::onggi_entry` goes on to the C library's own `_start`. See docs/adr/0018.

use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_void};

/// `arch_kind_other` of glibc's `enum cpu_features_kind`: neither unknown, which it asserts against, nor of a maker
/// whose features are looked at. All features are left at zero.
const PROCESSOR_OF_ANOTHER_KIND: u32 = 4;
/// Copies above this many bytes bypass the caches: glibc's own value for a shared cache of 1 MiB, of which it takes
/// three quarters. Zero, as it stands in the file, would mean every copy.
const BYPASS_CACHES_ABOVE: u64 = 0xc_0000;

/// Newer versions have a threshold of its own for memset.
#[cfg(memset_has_threshold)]
macro_rules! threshold_of_memset {
    () => {
        "mov qword ptr [rip + __x86_memset_non_temporal_threshold], {bypass}"
    };
}

/// Newer versions have a threshold of its own for memset.
#[cfg(not(memset_has_threshold))]
macro_rules! threshold_of_memset {
    () => {
        ""
    };
}

type Initializer = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

unsafe extern "C" {
    static __init_array_start: Initializer;
    static __init_array_end: Initializer;
    fn _init();
    fn __libc_early_init(initial: bool);
    fn __libc_init_first(argc: c_int, argv: *const *const c_char, environment: *const *const c_char);
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
        object: *mut c_void,
    ) -> c_int;
    fn main(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) -> c_int;
}

/// Sets the C library up as far as relocated addresses and thread-local variables, without which no compiled code may
/// run, and goes on to [`rest`].
///
/// # Safety
/// Jumped to once, at the entry of the process: `rbx` is the stack pointer there, `r12` what the dynamic linker, if there was one, wants to be
/// called at exit.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn quick_start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov [rip + __libc_stack_end], rbx",
        "mov r13, [rbx]",
        "lea r14, [rbx + 8]",
        "lea r15, [r14 + 8 * r13 + 8]",
        "mov [rip + __environ], r15",
        // The auxiliary vector follows the null that ends the environment.
        "mov rdi, r15",
        "2:",
        "add rdi, 8",
        "cmp qword ptr [rdi - 8], 0",
        "jne 2b",
        "call _dl_aux_init",
        "mov rdi, r15",
        "call __tunables_init",
        // In place of init_cpu_features.
        "mov dword ptr [rip + _dl_x86_cpu_features], {kind}",
        "mov qword ptr [rip + __x86_shared_non_temporal_threshold], {bypass}",
        "mov qword ptr [rip + __x86_rep_movsb_stop_threshold], {bypass}",
        threshold_of_memset!(),
        "call _dl_relocate_static_pie",
        "call __libc_setup_tls",
        // The canary of the stack, whose lowest byte ends strings, and the mask of stored code addresses.
        "mov rax, [rip + _dl_random]",
        "mov rcx, [rax]",
        "xor cl, cl",
        "mov fs:[0x28], rcx",
        "mov rax, [rax + 8]",
        "mov fs:[0x30], rax",
        "mov rdi, r13",
        "mov rsi, r14",
        "mov rdx, r15",
        "mov rcx, r12",
        "call {rest}",
        "ud2",
        kind = const PROCESSOR_OF_ANOTHER_KIND,
        bypass = const BYPASS_CACHES_ABOVE,
        rest = sym rest,
    )
}

/// What compiled code can do of it. Left out: the functions to be called at exit of the program's own objects
/// (`fini_array`; Rust has none), and the way back to here for `pthread_exit` in the first thread.
unsafe extern "C" fn rest(
    argc: c_int,
    argv: *const *const c_char,
    environment: *const *const c_char,
    at_exit: Option<unsafe extern "C" fn(*mut c_void)>,
) -> ! {
    if let Some(at_exit) = at_exit {
        // SAFETY: the function of the dynamic linker, which ignores its argument; a failure leaves it out.
        unsafe { __cxa_atexit(at_exit, core::ptr::null_mut(), core::ptr::null_mut()) };
    }
    // SAFETY: called once, after the thread-local variables are set up, for the first and only namespace of the linker.
    unsafe { __libc_early_init(true) };
    // SAFETY: called once, with what the kernel put on the stack.
    unsafe { __libc_init_first(argc, argv, environment) };
    // SAFETY: called once, before the initializers, as the C library does.
    unsafe { _init() };
    let mut initializer = &raw const __init_array_start;
    let end = &raw const __init_array_end;
    while initializer < end {
        // SAFETY: between the two symbols the linker puts addresses of functions.
        let function = unsafe { *initializer };
        // SAFETY: an initializer of the program, called once with the arguments that the C library passes.
        unsafe { function(argc, argv, environment) };
        initializer = initializer.wrapping_add(1);
    }
    // SAFETY: the program's `main`, called once.
    let code = unsafe { main(argc, argv, environment) };
    // SAFETY: no other thread runs.
    unsafe { libc::exit(code) }
}
