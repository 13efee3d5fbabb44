//! Runs in: RUNTIME. Pure: turns `linux.resources.devices` into the eBPF program that answers for a cgroup
//! whether a device may be opened or made. Loading and attaching it is `bpf.rs`.
//!
//! The list of config.json is read as the cgroup v1 controller read it: rules apply in order, each grants or
//! takes back *permissions* (read, write, mknod) on devices, and what nobody granted is denied. The program
//! therefore walks the list backwards and keeps, in one register, the permissions that are still undecided: a
//! matching allow rule takes its permissions out, and the request passes when none is left; a matching deny
//! rule that touches one of them ends in a denial. So `allow 8:0 rwm` followed by `deny 8:0 w` refuses an
//! open for reading and writing.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::spec::has_other_letters;
use crate::{Error, Result};

pub(crate) use runtime_sys::bpf::BpfInsn;

/// The answer that `exit` returns: 1 from the first instruction on, 0 once denied.
const ANSWER: u8 = 0;
/// The context, `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`.
const CONTEXT: u8 = 1;
/// Device type: the lower half of `access_type`.
const TYPE: u8 = 2;
/// Permissions of the request that no rule has decided yet: at first the upper half of `access_type`.
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb7;
const JUMP: u8 = 0x05;
// The 32-bit jumps (kernel 5.1): the 64-bit ones extend the sign of the immediate, so major 2^31 would never
// match.
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const JUMP_IF_ANY_BIT: u8 = 0x46;
const EXIT: u8 = 0x95;

const TYPE_BLOCK: u32 = 1;
const TYPE_CHARACTER: u32 = 2;

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERY_PERMISSION: u32 = MKNOD | READ | WRITE;

/// Character devices that every container may use, by major and minor; no minor means every minor. runc and
/// crun append the same to every list, and the runtime makes most of these nodes itself. `mknod` of any
/// device is allowed as well: a node without permission to open it is harmless, and archives hold such nodes.
const ALWAYS_ALLOWED: [(u32, &[u32]); 4] = [
    (1, &[3, 5, 7, 8, 9]), // null, zero, full, random, urandom
    (5, &[0, 2]),          // tty, ptmx
    (10, &[200]),          // net/tun
    (136, &[]),            // pts/*
];

/// The instructions that the program is made of.
mod instruction {
    use super::{BpfInsn, CONTEXT, EXIT, LOAD_WORD};

    fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> BpfInsn {
        // The two 4-bit fields are C bit-fields: which comes first follows the byte order.
        let registers = if cfg!(target_endian = "little") {
            destination | (source << 4)
        } else {
            source | (destination << 4)
        };
        BpfInsn {
            code,
            registers,
            offset,
            immediate,
        }
    }

    pub(super) fn load(destination: u8, offset: i16) -> BpfInsn {
        new(LOAD_WORD, destination, CONTEXT, offset, 0)
    }

    pub(super) fn arithmetic(code: u8, destination: u8, value: u32) -> BpfInsn {
        new(code, destination, 0, 0, value.cast_signed())
    }

    /// A jump forward over `skip` instructions.
    pub(super) fn jump(code: u8, register: u8, value: u32, skip: i16) -> BpfInsn {
        new(code, register, 0, skip, value.cast_signed())
    }

    pub(super) fn exit() -> BpfInsn {
        new(EXIT, 0, 0, 0, 0)
    }
}

/// A checked rule. `None` matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    device_type: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    permissions: u32,
}

/// Compiles the device rules of a container, in the order of config.json, to a program of type
/// `BPF_PROG_TYPE_CGROUP_DEVICE` that denies by default and always allows the devices every container needs.
///
/// # Errors
/// A rule with another type than `a`, `b` or `c`, a number that is no device number, or an empty `access`;
/// the error names the rule. Letters of `access` other than `rwm` mean nothing.
pub(crate) fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Vec<BpfInsn>> {
    let mut open_rules = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        open_rules.extend(Rule::parse(index, rule)?.without_what_is_settled());
    }
    let mut program = vec![
        instruction::arithmetic(MOVE, ANSWER, 1),
        instruction::load(UNDECIDED, 0),
        instruction::arithmetic(SHIFT_RIGHT, UNDECIDED, 16),
        instruction::load(TYPE, 0),
        instruction::arithmetic(AND, TYPE, 0xffff),
        instruction::load(MAJOR, 4),
        instruction::load(MINOR, 8),
    ];
    allow_the_usual_devices(&mut program);
    // Denials before the first grant only repeat the default; engines begin every list with one.
    let first_grant = open_rules.iter().position(|rule| rule.allow);
    for rule in open_rules[first_grant.unwrap_or(open_rules.len())..].iter().rev() {
        rule.emit(&mut program);
        if rule.decides_everything() {
            return Ok(program); // the verifier refuses instructions that cannot be reached
        }
    }
    deny(&mut program);
    Ok(program)
}

fn deny(program: &mut Vec<BpfInsn>) {
    program.extend([instruction::arithmetic(MOVE, ANSWER, 0), instruction::exit()]);
}

fn allow_the_usual_devices(program: &mut Vec<BpfInsn>) {
    Rule {
        allow: true,
        device_type: None,
        major: None,
        minor: None,
        permissions: MKNOD,
    }
    .emit(program);
    let mut characters = Vec::new();
    for (major, minors) in ALWAYS_ALLOWED {
        let mut same_major = Vec::new();
        for minor in minors {
            same_major.push(instruction::jump(JUMP_IF_NOT_EQUAL, MINOR, *minor, 1));
            same_major.push(instruction::exit());
        }
        if minors.is_empty() {
            same_major.push(instruction::exit());
        }
        guard(&mut characters, MAJOR, major, &same_major);
    }
    guard(program, TYPE, TYPE_CHARACTER, &characters);
}

/// Appends `body` so that it runs only if the register holds `value`. Bodies are a handful of instructions.
///
/// The verifier follows the fall-through first and stops where it has been with a more general state. Falling
/// through to the general case, in which the register holds another value, keeps its work linear in the
/// number of rules; the shorter form with one inverted jump makes it quadratic, and 1000 rules too many for
/// Linux 6.1.
fn guard(program: &mut Vec<BpfInsn>, register: u8, value: u32, body: &[BpfInsn]) {
    program.push(instruction::jump(JUMP_IF_EQUAL, register, value, 1));
    program.push(instruction::jump(JUMP, 0, 0, body.len() as i16));
    program.extend_from_slice(body);
}

impl Rule {
    fn parse(index: usize, rule: &LinuxDeviceCgroup) -> Result<Self> {
        let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
        let device_type = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(TYPE_BLOCK),
            Some(LinuxDeviceType::C) => Some(TYPE_CHARACTER),
            Some(other) => {
                let message = format!("a device rule has type a, b or c, not {}", other.as_str());
                return Err(Error::invalid(field("type"), message));
            }
        };
        let number = |name: &str, value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some).map_err(|_| {
                Error::invalid(
                    field(name),
                    format!("{value} is not a device number (-1 means every number)"),
                )
            }),
        };
        Ok(Self {
            allow: rule.allow(),
            device_type,
            major: number("major", rule.major())?,
            minor: number("minor", rule.minor())?,
            permissions: match rule.access().as_deref() {
                Some(access) if !rule.allow() && has_other_letters(access) => READ | WRITE | MKNOD,
                access => permissions(&field("access"), access.unwrap_or_default())?,
            },
        })
    }

    /// The rule as far as the devices that are always allowed leave something to it. The engines list those
    /// too, and every instruction costs the verifier time.
    fn without_what_is_settled(self) -> Option<Self> {
        let permissions = self.permissions & !MKNOD;
        let is_usual = self.device_type == Some(TYPE_CHARACTER)
            && ALWAYS_ALLOWED.iter().any(|(major, minors)| {
                let same_minor = self.minor.is_some_and(|minor| minors.contains(&minor));
                self.major == Some(*major) && (minors.is_empty() || same_minor)
            });
        (permissions != 0 && !is_usual).then_some(Self { permissions, ..self })
    }

    /// Whether no request gets past this rule.
    fn decides_everything(&self) -> bool {
        let every_device = self.device_type.or(self.major).or(self.minor).is_none();
        every_device && self.permissions == READ | WRITE
    }

    fn emit(&self, program: &mut Vec<BpfInsn>) {
        let mut body = self.verdict();
        for (register, value) in [(MINOR, self.minor), (MAJOR, self.major), (TYPE, self.device_type)] {
            let Some(value) = value else { continue };
            let inner = std::mem::take(&mut body);
            guard(&mut body, register, value, &inner);
        }
        program.append(&mut body);
    }

    /// What the rule says about a device that it matches; falls through where it leaves something undecided.
    fn verdict(&self) -> Vec<BpfInsn> {
        let every_permission = self.permissions == READ | WRITE; // mknod is settled before any rule
        let mut body = Vec::with_capacity(10);
        match (self.allow, every_permission) {
            (true, true) => body.push(instruction::exit()),
            (true, false) => body.extend([
                instruction::arithmetic(AND, UNDECIDED, EVERY_PERMISSION & !self.permissions),
                instruction::jump(JUMP_IF_NOT_EQUAL, UNDECIDED, 0, 1),
                instruction::exit(),
            ]),
            (false, true) => deny(&mut body),
            (false, false) => {
                body.push(instruction::jump(JUMP_IF_ANY_BIT, UNDECIDED, self.permissions, 1));
                body.push(instruction::jump(JUMP, 0, 0, 2));
                deny(&mut body);
            }
        }
        body
    }
}

fn permissions(field: &str, access: &str) -> Result<u32> {
    if access.is_empty() {
        return Err(Error::invalid(
            field.to_owned(),
            "device access cannot be empty; it is some of the letters rwm",
        ));
    }
    Ok(access.chars().fold(0, |permissions, letter| match letter {
        'r' => permissions | READ,
        'w' => permissions | WRITE,
        'm' => permissions | MKNOD,
        _ => permissions,
    }))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    use super::*;

    /// Runs a program as the kernel would, for the instructions that `compile` uses.
    fn run(program: &[BpfInsn], device_type: u32, major: u32, minor: u32, access: u32) -> bool {
        let context = [(access << 16) | device_type, major, minor];
        let mut registers = [0u32; 11];
        let mut at = 0usize;
        loop {
            let BpfInsn {
                code,
                registers: pair,
                offset,
                immediate,
            } = program[at];
            let to = usize::from(pair & 0xf);
            let value = immediate.cast_unsigned();
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    assert_eq!(pair >> 4, CONTEXT);
                    registers[to] = context[offset as usize / 4];
                    false
                }
                AND => {
                    registers[to] &= value;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= value;
                    false
                }
                MOVE => {
                    registers[to] = value;
                    false
                }
                JUMP => true,
                JUMP_IF_EQUAL => registers[to] == value,
                JUMP_IF_NOT_EQUAL => registers[to] != value,
                JUMP_IF_ANY_BIT => registers[to] & value != 0,
                EXIT => return registers[usize::from(ANSWER)] == 1,
                other => panic!("instruction {other:#x}"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
    }

    fn rule(allow: bool, typ: LinuxDeviceType, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .typ(typ)
            .major(major)
            .minor(minor)
            .access(access)
            .build()
            .unwrap()
    }

    const CHARACTER: LinuxDeviceType = LinuxDeviceType::C;
    const BLOCK: LinuxDeviceType = LinuxDeviceType::B;
    const ALL: LinuxDeviceType = LinuxDeviceType::A;
    const RW: u32 = READ | WRITE;

    #[test]
    fn without_rules_only_the_usual_devices_are_allowed() {
        let everything_denied = [rule(false, ALL, -1, -1, "rwm")];
        for rules in [&everything_denied[..], &[]] {
            let program = compile(rules).unwrap();
            for (major, minor) in [
                (1, 3),
                (1, 5),
                (1, 7),
                (1, 8),
                (1, 9),
                (5, 0),
                (5, 2),
                (10, 200),
                (136, 0),
                (136, 77),
            ] {
                assert!(run(&program, TYPE_CHARACTER, major, minor, RW), "{major}:{minor}");
                assert!(
                    !run(&program, TYPE_BLOCK, major, minor, READ),
                    "block {major}:{minor}"
                );
            }
            for (major, minor) in [
                (1, 1),
                (1, 2),
                (1, 4),
                (1, 11),
                (4, 0),
                (5, 1),
                (10, 199),
                (137, 0),
                (0, 0),
            ] {
                assert!(
                    !run(&program, TYPE_CHARACTER, major, minor, READ),
                    "{major}:{minor}"
                );
                assert!(
                    !run(&program, TYPE_CHARACTER, major, minor, READ | MKNOD),
                    "{major}:{minor}"
                );
            }
            assert!(run(&program, TYPE_BLOCK, 8, 0, MKNOD));
            assert!(run(&program, TYPE_CHARACTER, 1, 11, MKNOD));
            assert!(!run(&program, TYPE_BLOCK, 8, 0, RW));
        }
    }

    #[test]
    fn the_usual_list_costs_39_instructions() {
        assert_eq!(compile(&[rule(false, ALL, -1, -1, "rwm")]).unwrap().len(), 39);
    }

    #[test]
    fn the_list_that_engines_write_costs_no_more() {
        let mut rules = vec![rule(false, ALL, -1, -1, "rwm")];
        rules.extend([rule(true, CHARACTER, -1, -1, "m"), rule(true, BLOCK, -1, -1, "m")]);
        for (major, minor) in [
            (1, 3),
            (1, 8),
            (1, 7),
            (5, 0),
            (1, 5),
            (1, 9),
            (136, -1),
            (5, 2),
            (10, 200),
        ] {
            rules.push(rule(true, CHARACTER, major, minor, "rwm"));
        }
        assert_eq!(compile(&rules).unwrap(), compile(&[]).unwrap());
        rules.push(rule(true, CHARACTER, 5, 1, "rwm"));
        assert!(run(&compile(&rules).unwrap(), TYPE_CHARACTER, 5, 1, RW));
    }

    #[test]
    fn the_last_matching_rule_wins_for_each_permission() {
        let program = compile(&[
            rule(false, ALL, -1, -1, "rwm"),
            rule(true, BLOCK, 8, -1, "rwm"),
            rule(false, BLOCK, 8, 1, "w"),
            rule(true, CHARACTER, 1, 11, "r"),
            rule(true, CHARACTER, 1, 11, "w"),
        ])
        .unwrap();
        assert!(run(&program, TYPE_BLOCK, 8, 0, RW));
        assert!(run(&program, TYPE_BLOCK, 8, 1, READ));
        assert!(!run(&program, TYPE_BLOCK, 8, 1, WRITE));
        assert!(
            !run(&program, TYPE_BLOCK, 8, 1, RW),
            "reading does not carry writing along"
        );
        assert!(run(&program, TYPE_CHARACTER, 1, 11, RW), "two grants add up");
        assert!(!run(&program, TYPE_CHARACTER, 8, 0, READ), "another type");
    }

    #[test]
    fn the_usual_devices_cannot_be_denied() {
        let program = compile(&[
            rule(true, ALL, -1, -1, "rwm"),
            rule(false, CHARACTER, 1, 3, "rwm"),
        ])
        .unwrap();
        assert!(run(&program, TYPE_CHARACTER, 1, 3, RW));
    }

    #[test]
    fn a_rule_for_everything_ends_the_program() {
        let program = compile(&[rule(true, BLOCK, 7, 7, "r"), rule(true, ALL, -1, -1, "rwm")]).unwrap();
        assert_eq!(program.len(), 38);
        assert!(run(&program, TYPE_BLOCK, 8, 0, RW));
        let program = compile(&[
            rule(true, ALL, -1, -1, "rwm"),
            rule(false, ALL, -1, -1, "rwm"),
            rule(true, BLOCK, 7, -1, "r"),
        ])
        .unwrap();
        assert!(!run(&program, TYPE_BLOCK, 8, 0, READ));
        assert!(run(&program, TYPE_BLOCK, 7, 9, READ));
    }

    #[test]
    fn numbers_beyond_31_bits_match() {
        let program = compile(&[rule(true, CHARACTER, 4_294_967_295, 2_147_483_648, "r")]).unwrap();
        assert!(run(&program, TYPE_CHARACTER, u32::MAX, 1 << 31, READ));
        assert!(!run(&program, TYPE_CHARACTER, u32::MAX, 0, READ));
    }

    /// The semantics in one sentence, to compare the program with: apply the rules in order to each
    /// permission.
    fn model(rules: &[Rule], device_type: u32, major: u32, minor: u32, access: u32) -> bool {
        let mut granted = 0;
        for rule in rules {
            let same = |wanted: Option<u32>, value| wanted.is_none_or(|wanted| wanted == value);
            if !(same(rule.device_type, device_type) && same(rule.major, major) && same(rule.minor, minor)) {
                continue;
            }
            granted = if rule.allow {
                granted | rule.permissions
            } else {
                granted & !rule.permissions
            };
        }
        access & !(granted | MKNOD) == 0
    }

    #[test]
    fn random_lists_agree_with_the_model() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let letters = ["r", "w", "m", "rw", "rm", "wm", "rwm", "mrw"];
        for _ in 0..500 {
            let rules: Vec<_> = (0..random(8))
                .map(|_| {
                    let typ = [ALL, BLOCK, CHARACTER][random(3) as usize];
                    let (major, minor) = (random(3) as i64 - 1 + 20, random(3) as i64 - 1);
                    let major = if major == 19 { -1 } else { major };
                    rule(random(2) == 0, typ, major, minor, letters[random(8) as usize])
                })
                .collect();
            let program = compile(&rules).unwrap();
            let parsed: Vec<_> = rules.iter().map(|rule| Rule::parse(0, rule).unwrap()).collect();
            for request in 0..2 * 3 * 3 * 7_u32 {
                let (device_type, major) = (request % 2 + 1, 19 + request / 2 % 3);
                let (minor, access) = (request / 6 % 3, request / 18 + 1);
                assert_eq!(
                    run(&program, device_type, major, minor, access),
                    model(&parsed, device_type, major, minor, access),
                    "{parsed:?}: type {device_type} {major}:{minor} access {access}"
                );
            }
        }
    }

    #[test]
    fn other_letters_grant_nothing() {
        for (access, granted) in [
            ("none", 0),
            ("RWM", 0),
            ("rx", READ),
            ("r, w", READ | WRITE),
            ("x", 0),
        ] {
            let program = compile(&[rule(true, BLOCK, 7, 9, access)]).unwrap();
            for request in [READ, WRITE, READ | WRITE] {
                let is_granted = run(&program, TYPE_BLOCK, 7, 9, request);
                assert_eq!(is_granted, request & !granted == 0, "{access} {request}");
            }
        }
    }

    #[test]
    fn bad_rules_are_named() {
        for (bad, text) in [
            (
                rule(true, CHARACTER, 1, 3, ""),
                "linux.resources.devices[1].access: device access cannot be empty",
            ),
            (
                rule(true, CHARACTER, -2, 3, "r"),
                "linux.resources.devices[1].major: -2 is not a device number",
            ),
            (
                rule(true, CHARACTER, 1, 1 << 32, "r"),
                "linux.resources.devices[1].minor: 4294967296 is not",
            ),
            (
                rule(true, LinuxDeviceType::P, 1, 3, "r"),
                "linux.resources.devices[1].type: a device rule has type",
            ),
        ] {
            let error = compile(&[rule(false, ALL, -1, -1, "rwm"), bad]).unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
        }
        let absent = LinuxDeviceCgroupBuilder::default().allow(true).build().unwrap();
        assert_eq!(
            compile(&[absent]).unwrap_err().field(),
            Some("linux.resources.devices[0].access")
        );
    }
}
