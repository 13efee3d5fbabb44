//! Runs in: RUNTIME. Joins the rules of all syscalls of all architectures to one program: one dispatch over
//! the architecture, then a binary search over ranges of syscall numbers with an equal verdict.
//!
//! What the kernel does with calls that no rule names, or that come from an architecture outside the filter,
//! follows libseccomp: the default action, and KILL_THREAD.

use std::ops::RangeInclusive;

use super::SockFilter;
use super::arch::{ARM_PRIVATE, Architecture, Syscall, X32_BIT};
use super::assembler::{Assembler, Compare, Label};
use super::conditions::{Condition, Conflict, Rule, Tree};

/// libseccomp's default for calls from architectures that the filter does not have:
/// `SECCOMP_RET_KILL_THREAD`.
const BAD_ARCHITECTURE: u32 = 0;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
/// `offsetof(struct seccomp_data, nr)` and `arch`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
/// A tracer that wants to skip a call sets its number to -1; libseccomp lets that pass the x32 gate.
const SKIPPED_CALL: u32 = u32::MAX;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Default,
    Action(u32),
    /// Its arguments decide: an index into the trees of the architecture.
    Tree(usize),
}

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Calls {
    architecture: &'static Architecture,
    /// By syscall number, less the architecture's base.
    verdicts: Vec<Verdict>,
    /// The same for the private calls of 32-bit ARM, from [`ARM_PRIVATE`].
    private: Vec<Verdict>,
    trees: Vec<Tree>,
    /// The highest number that the profile names, if calls above it are to answer ENOSYS.
    newest: Option<u32>,
    answers_enosys: bool,
}

impl Calls {
    pub(super) fn new(architecture: &'static Architecture, answers_enosys: bool) -> Self {
        Self {
            architecture,
            verdicts: Vec::with_capacity(512),
            private: Vec::new(),
            trees: Vec::new(),
            newest: None,
            answers_enosys,
        }
    }

    pub(super) fn architecture(&self) -> &'static Architecture {
        self.architecture
    }

    /// Notes that the profile knows this call, whatever it says about it.
    pub(super) fn note(&mut self, call: Syscall) {
        let direct = call.number(self.architecture);
        let multiplexer = call.multiplexed(self.architecture).map(|(number, _)| number);
        self.newest = self.newest.max(direct).max(multiplexer);
    }

    /// Adds a rule for a call: for its own number, and for the multiplexer that it can be made through as
    /// well.
    pub(super) fn add(
        &mut self,
        call: Syscall,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), Conflict> {
        if let Some((number, selector)) = call.multiplexed(self.architecture) {
            // As in libseccomp: what is asked of the first argument is lost, as the multiplexer's first
            // argument is the selector; what is asked of the others is compared with the multiplexer's
            // arguments.
            let selector = Condition {
                argument: 0,
                operator: oci_spec::runtime::LinuxSeccompOperator::ScmpCmpEq,
                mask: u64::MAX,
                value: u64::from(selector),
            };
            let mut mangled = vec![selector];
            mangled.extend(conditions.iter().filter(|condition| condition.argument != 0));
            self.set(number, Rule::new(&mangled, action, self.architecture.wide))?;
        }
        match call.number(self.architecture) {
            Some(number) => self.set(number, Rule::new(conditions, action, self.architecture.wide)),
            None => Ok(()),
        }
    }

    fn set(&mut self, number: u32, rule: Rule) -> Result<(), Conflict> {
        let at = number - self.architecture.base;
        let (verdicts, at) = match at.checked_sub(ARM_PRIVATE) {
            Some(private) => (&mut self.private, private as usize),
            None => (&mut self.verdicts, at as usize),
        };
        if at >= verdicts.len() {
            verdicts.resize(at + 1, Verdict::Default);
        }
        match (verdicts[at], rule) {
            // The first rule without conditions has the last word.
            (Verdict::Action(_), _) => {}
            (_, Rule::Always(action)) => verdicts[at] = Verdict::Action(action),
            (Verdict::Default, Rule::If(tree)) => {
                verdicts[at] = Verdict::Tree(self.trees.len());
                self.trees.push(tree);
            }
            (Verdict::Tree(known), Rule::If(tree)) => self.trees[known].add(tree)?,
        }
        Ok(())
    }

    /// The number above which calls answer ENOSYS; runc leaves architectures alone of which the profile names
    /// no call but number 0.
    fn newest(&self) -> Option<u32> {
        self.newest
            .filter(|&newest| self.answers_enosys && newest != self.architecture.base)
    }
}

/// All syscall numbers of one `seccomp_data.arch`, in ranges: each with its first number, up to the next one.
#[derive(Debug)]
struct Ranges(Vec<(u32, Verdict)>);

impl Ranges {
    fn new(verdict: Verdict) -> Self {
        Self(vec![(0, verdict)])
    }

    /// Appends; `from` is never smaller than what is there already.
    fn push(&mut self, from: u32, verdict: Verdict) {
        match self.0.last() {
            Some(&(last, _)) if last == from => {
                self.0.pop();
                self.push(from, verdict);
            }
            Some(&(_, known)) if known == verdict => {}
            _ => self.0.push((from, verdict)),
        }
    }

    /// Appends the numbers that rules name, `first_tree` being the index of the first tree of these calls.
    fn append(&mut self, calls: &Calls, first_tree: usize) {
        let base = calls.architecture.base;
        for (first, verdicts) in [(base, &calls.verdicts), (base + ARM_PRIVATE, &calls.private)] {
            for (number, verdict) in (first..).zip(verdicts) {
                let verdict = match *verdict {
                    Verdict::Tree(tree) => Verdict::Tree(first_tree + tree),
                    other => other,
                };
                self.push(number, verdict);
            }
            self.push(first + verdicts.len() as u32, Verdict::Default);
        }
    }

    /// Gives all numbers of `numbers` this verdict.
    fn replace(&mut self, numbers: RangeInclusive<u32>, verdict: Verdict) {
        let (first, last) = (*numbers.start(), *numbers.end());
        if first > last {
            return;
        }
        let mut new = Self(Vec::with_capacity(self.0.len() + 2));
        let mut after = Verdict::Default;
        for &(from, known) in self.0.iter().take_while(|(from, _)| *from < first) {
            new.push(from, known);
            after = known;
        }
        new.push(first, verdict);
        for &(from, known) in self.0.iter().filter(|(from, _)| *from >= first) {
            if from > last {
                if new.0.last().is_some_and(|&(at, _)| at <= last) {
                    new.push(last + 1, after);
                }
                new.push(from, known);
            }
            after = known;
        }
        if last < u32::MAX && new.0.last().is_some_and(|&(at, _)| at <= last) {
            new.push(last + 1, after);
        }
        *self = new;
    }
}

/// The whole filter: the calls of all architectures, the native one first.
#[derive(Debug)]
pub(super) struct Linker {
    pub(super) calls: Vec<Calls>,
    pub(super) default_action: u32,
    pub(super) big_endian: bool,
}

impl Linker {
    /// Writes the program.
    pub(super) fn link(&self) -> Vec<SockFilter> {
        let mut assembler = Assembler::default();
        let mut audits: Vec<u32> = self.calls.iter().map(|calls| calls.architecture.audit).collect();
        audits.sort_unstable();
        audits.dedup();
        let native = self.calls.first().map(|calls| calls.architecture.audit);
        // The native one last: code is written from the end, and so its search stands nearest to the
        // dispatch.
        audits.sort_by_key(|audit| Some(*audit) == native);

        let sections: Vec<(u32, Label)> = audits
            .iter()
            .map(|&audit| (audit, self.section(&mut assembler, audit)))
            .collect();
        let mut next = assembler.ret(BAD_ARCHITECTURE);
        for (audit, section) in sections {
            next = assembler.branch(Compare::Equal, audit, section, next);
        }
        assembler.load(OFFSET_ARCH, u32::MAX, next);
        assembler.finish()
    }

    /// The code for all calls that the kernel reports under one architecture number.
    fn section(&self, assembler: &mut Assembler, audit: u32) -> Label {
        let of_audit = || {
            self.calls
                .iter()
                .filter(move |calls| calls.architecture.audit == audit)
        };
        let x32 = of_audit().find(|calls| calls.architecture.base == X32_BIT);
        let plain = of_audit().find(|calls| calls.architecture.base != X32_BIT);

        let mut ranges = Ranges::new(Verdict::Default);
        let mut trees: Vec<&Tree> = Vec::new();
        if let Some(calls) = plain {
            ranges.append(calls, 0);
            trees.extend(&calls.trees);
        }
        if let Some(calls) = x32 {
            ranges.append(calls, trees.len());
            trees.extend(&calls.trees);
        }
        let is_x86_64 =
            of_audit().any(|calls| calls.architecture.name == oci_spec::runtime::Arch::ScmpArchX86_64);
        match (plain, x32) {
            (Some(_), None) if is_x86_64 => {
                ranges.replace(X32_BIT..=SKIPPED_CALL - 1, Verdict::Action(BAD_ARCHITECTURE));
            }
            (None, Some(_)) => ranges.replace(0..=X32_BIT - 1, Verdict::Action(BAD_ARCHITECTURE)),
            _ => {}
        }
        enosys(&mut ranges, plain, x32, is_x86_64);

        let mut labels = vec![None; trees.len()];
        let mut search = Search {
            linker: self,
            assembler,
            trees: &trees,
            labels: &mut labels,
        };
        let first = search.among(&ranges.0);
        assembler.load(OFFSET_NUMBER, u32::MAX, first)
    }
}

/// Calls that are newer than the newest one which the profile names answer ENOSYS, so that a C library falls
/// back to an older call, where the profile's EPERM would make it give up (runc issue 2151). On x86_64, bit
/// 30 of the number says which of the two ABIs a call belongs to, as in runc; the numbers with bit 31, which
/// belong to none, too.
fn enosys(ranges: &mut Ranges, plain: Option<&Calls>, x32: Option<&Calls>, is_x86_64: bool) {
    let no_such_call = Verdict::Action(NO_SUCH_CALL);
    let newest = plain.and_then(Calls::newest);
    let is_x86_64 = is_x86_64 || x32.is_some();
    if let Some(newest) = newest {
        let end = if is_x86_64 { X32_BIT - 1 } else { u32::MAX };
        ranges.replace(newest + 1..=end, no_such_call);
        if is_x86_64 {
            ranges.replace(2 * X32_BIT..=3 * X32_BIT - 1, no_such_call);
        }
    }
    if let Some(newest) = x32.and_then(Calls::newest) {
        ranges.replace(newest + 1..=2 * X32_BIT - 1, no_such_call);
        ranges.replace(3 * X32_BIT..=u32::MAX, no_such_call);
    }
    let is_s390 = plain.is_some_and(|calls| {
        use oci_spec::runtime::Arch::{ScmpArchS390, ScmpArchS390x};
        matches!(calls.architecture.name, ScmpArchS390 | ScmpArchS390x)
    });
    if newest.is_some() && is_s390 {
        // Calls above 255 are made through number 0 there, which stays 0 if the kernel does not know the
        // call.
        ranges.replace(0..=0, no_such_call);
    }
}

/// The binary search of one section.
struct Search<'a> {
    linker: &'a Linker,
    assembler: &'a mut Assembler,
    trees: &'a [&'a Tree],
    labels: &'a mut [Option<Label>],
}

impl Search<'_> {
    fn among(&mut self, ranges: &[(u32, Verdict)]) -> Label {
        match *ranges {
            [(_, only)] => self.verdict(only),
            [(_, below), (one, at), (next, above)] if below == above && next == one + 1 => {
                let otherwise = self.verdict(below);
                let then = self.verdict(at);
                self.assembler.branch(Compare::Equal, one, then, otherwise)
            }
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let from = above[0].0;
                let above = self.among(above);
                let below = self.among(below);
                self.assembler.branch(Compare::GreaterOrEqual, from, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) -> Label {
        let linker = self.linker;
        match verdict {
            Verdict::Default => self.assembler.ret(linker.default_action),
            Verdict::Action(action) => self.assembler.ret(action),
            Verdict::Tree(tree) => match self.labels[tree] {
                Some(label) => label,
                None => {
                    let label =
                        self.trees[tree].assemble(self.assembler, linker.big_endian, linker.default_action);
                    self.labels[tree] = Some(label);
                    label
                }
            },
        }
    }
}
