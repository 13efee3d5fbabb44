//! Runs in: RUNTIME. The argument conditions of one syscall: a tree of comparisons of 32-bit words, and its
//! BPF code. Knows nothing of names, numbers and architectures but the width of arguments.
//!
//! BPF compares 32-bit words, arguments have 64 bits, so a condition becomes one test (32-bit architectures)
//! or two or three (64-bit ones). The rules of a syscall share one tree, in which tests stand in the order
//! that libseccomp gives them, because where two rules with different actions match the same call that order
//! is what decides, and profiles were written against it:
//!
//! 1. a rule without conditions beats those with (the linker sees to that);
//! 2. the higher argument goes first; then `EQ`, `NE`, `MASKED_EQ` before `LT`, `LE` before `GT`, `GE`;
//! 3. then the larger value, but for `LT` and `LE` the smaller one; then the rule that was written first.
//!
//! Two rules that cannot be told apart by this (the same conditions, different actions) are an error, as they
//! are in libseccomp, and so in runc and crun.
//!
//! The crate seccompiler, which the design had in mind for this layer, is not used: its rules have no actions
//! and no order among them, its code for a rule may not be entered with jumps longer than its own 8 bits, and
//! it reads the words of an argument in little-endian order only.

use std::collections::HashMap;

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::assembler::{Assembler, Compare, Label};

/// One condition of a rule, checked: the argument's index is 0 to 5.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// A comparison of one 32-bit word of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Test {
    /// Twice the argument's index, plus one for its high word.
    word: u8,
    compare: Compare,
    /// Whether it stems from `MASKED_EQ`; such a test is not the same as an `EQ` one, even if its mask is
    /// full.
    masked: bool,
    mask: u32,
    value: u32,
}

#[derive(Debug, Clone)]
struct Node {
    test: Test,
    operator: Operator,
    /// The whole value, for the order among rules that share this test of the high word.
    whole: u64,
    /// The whole value of the rule that gave `then` its action.
    settled: u64,
    then: Branch,
    otherwise: Branch,
}

/// Where a test leads: to an action, or to further tests; with neither, to the next test of the level above.
#[derive(Debug, Clone, Default)]
struct Branch {
    action: Option<u32>,
    tests: Vec<Node>,
}

/// Two rules want different actions for the same conditions.
#[derive(Debug)]
pub(super) struct Conflict;

/// The conditions of one syscall.
#[derive(Debug)]
pub(super) struct Tree(Vec<Node>);

/// One rule, ready to be put into a tree.
#[derive(Debug)]
pub(super) enum Rule {
    /// It has no condition, or only such that always hold.
    Always(u32),
    /// It has conditions.
    If(Tree),
}

impl Rule {
    /// Conditions, at most one for each argument, in the order of arguments.
    pub(super) fn new(conditions: &[Condition], action: u32, wide: bool) -> Self {
        let Branch { action, tests } = chain(conditions, action, wide);
        match action {
            Some(action) => Self::Always(action),
            None => Self::If(Tree(tests)),
        }
    }
}

fn chain(conditions: &[Condition], action: u32, wide: bool) -> Branch {
    let Some((condition, rest)) = conditions.split_first() else {
        return Branch {
            action: Some(action),
            tests: Vec::new(),
        };
    };
    let rest = chain(rest, action, wide);
    let seen = if wide {
        condition.mask
    } else {
        condition.mask & u64::from(u32::MAX)
    };
    if seen == 0 {
        // MASKED_EQ that looks at no bit holds for any value, also if the value to compare with is not 0:
        // libseccomp masks that too.
        return rest;
    }
    let node = if wide {
        condition.wide(rest)
    } else {
        condition.narrow(rest)
    };
    Branch {
        action: None,
        tests: vec![node],
    }
}

fn to(tests: Node) -> Branch {
    Branch {
        action: None,
        tests: vec![tests],
    }
}

impl Condition {
    fn test(&self, high: bool, compare: Compare, then: Branch, otherwise: Branch) -> Node {
        let shift = if high { 32 } else { 0 };
        let mask = (self.mask >> shift) as u32;
        let test = Test {
            word: self.argument * 2 + u8::from(high),
            compare,
            masked: self.operator == Operator::ScmpCmpMaskedEq,
            mask,
            value: (self.value >> shift) as u32 & mask,
        };
        Node {
            test,
            operator: self.operator,
            whole: self.value,
            settled: self.value,
            then,
            otherwise,
        }
    }

    /// The comparison of the low word, and whether it has to fail.
    fn low(&self) -> (Compare, bool) {
        match self.operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (Compare::Equal, false),
            Operator::ScmpCmpNe => (Compare::Equal, true),
            Operator::ScmpCmpGt => (Compare::Greater, false),
            Operator::ScmpCmpGe => (Compare::GreaterOrEqual, false),
            Operator::ScmpCmpLt => (Compare::GreaterOrEqual, true),
            Operator::ScmpCmpLe => (Compare::Greater, true),
        }
    }

    fn narrow(&self, rest: Branch) -> Node {
        let (compare, negated) = self.low();
        let (then, otherwise) = if negated {
            (Branch::default(), rest)
        } else {
            (rest, Branch::default())
        };
        self.test(false, compare, then, otherwise)
    }

    fn wide(&self, rest: Branch) -> Node {
        let no = Branch::default;
        let low = to(self.narrow(rest.clone()));
        match self.operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => self.test(true, Compare::Equal, low, no()),
            Operator::ScmpCmpNe => self.test(true, Compare::Equal, low, rest),
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => {
                let equal = to(self.test(true, Compare::Equal, low, no()));
                self.test(true, Compare::Greater, rest, equal)
            }
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => {
                let equal = to(self.test(true, Compare::Equal, low, rest));
                self.test(true, Compare::Greater, no(), equal)
            }
        }
    }
}

impl Node {
    /// Whether `self` stands before `other` on one level of the tree.
    fn before(&self, other: &Self) -> bool {
        let key = |node: &Self| (node.test.word, operator_rank(node.operator));
        if key(self) != key(other) {
            return key(self) > key(other);
        }
        match other.operator {
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => self.test.value < other.test.value,
            _ => self.test.value > other.test.value,
        }
    }

    fn is_leaf(&self) -> bool {
        self.then.tests.is_empty() && self.otherwise.tests.is_empty()
    }

    fn merge(&mut self, mut new: Self) -> Result<(), Conflict> {
        let leaf = self.is_leaf() || new.is_leaf();
        // A test of the high word that settles a range comparison settles it for all rules that share the
        // test: the narrower range has the say, as in the order of the tests of the low word.
        let high = new.test.word % 2 == 1;
        let (above, below) = (high && new.whole > self.whole, high && new.whole < self.whole);
        if self.then.action.is_some() && !new.then.tests.is_empty() && self.settled < new.whole {
            // A greater range, for which nothing else is asked, covers the new rule in its high word: then
            // also in its low one.
            new.otherwise.tests.clear();
        }
        let action = self.then.action;
        self.then.merge(new.then, above, leaf)?;
        if self.then.action != action {
            self.settled = new.whole;
        }
        self.otherwise.merge(new.otherwise, below, leaf)
    }
}

fn operator_rank(operator: Operator) -> u8 {
    match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => 3,
        Operator::ScmpCmpLt | Operator::ScmpCmpLe => 2,
        Operator::ScmpCmpGt | Operator::ScmpCmpGe => 1,
    }
}

impl Branch {
    fn merge(&mut self, new: Self, narrower: bool, leaf: bool) -> Result<(), Conflict> {
        match (self.action, new.action) {
            (Some(old), Some(action)) if old != action => {
                if leaf {
                    return Err(Conflict);
                }
                if narrower {
                    self.action = Some(action);
                }
            }
            (None, Some(action)) => {
                if !self.tests.iter().all(|node| node.only(action)) {
                    return Err(Conflict);
                }
                *self = Self {
                    action: Some(action),
                    tests: Vec::new(),
                };
            }
            _ => {}
        }
        if self.action.is_some() {
            // A rule with fewer conditions is there already: it covers what the new one asks for.
            return Ok(());
        }
        new.tests
            .into_iter()
            .try_for_each(|node| insert(&mut self.tests, node))
    }

    fn only(&self, action: u32) -> bool {
        self.action.is_none_or(|known| known == action) && self.tests.iter().all(|node| node.only(action))
    }
}

impl Node {
    fn only(&self, action: u32) -> bool {
        self.then.only(action) && self.otherwise.only(action)
    }
}

fn insert(level: &mut Vec<Node>, new: Node) -> Result<(), Conflict> {
    for at in 0..level.len() {
        if level[at].test == new.test {
            return level[at].merge(new);
        }
        if new.before(&level[at]) {
            level.insert(at, new);
            return Ok(());
        }
    }
    level.push(new);
    Ok(())
}

/// A place to go to, and the shorter way in for those that have the wanted word in the accumulator already.
#[derive(Debug, Clone, Copy)]
struct Entry {
    label: Label,
    loaded: Option<(u8, u32, Label)>,
}

impl Entry {
    fn at(label: Label) -> Self {
        Self { label, loaded: None }
    }

    fn from(self, word: u8, mask: u32) -> Label {
        match self.loaded {
            Some((loaded, masked, label)) if (loaded, masked) == (word, mask) => label,
            _ => self.label,
        }
    }
}

impl Tree {
    /// Adds the conditions of another rule of the same syscall.
    pub(super) fn add(&mut self, rule: Self) -> Result<(), Conflict> {
        rule.0.into_iter().try_for_each(|node| insert(&mut self.0, node))
    }

    /// Writes the code; a call that no rule matches goes to `default`.
    pub(super) fn assemble(&self, assembler: &mut Assembler, big_endian: bool, default: u32) -> Label {
        let end = Entry::at(assembler.ret(default));
        Code {
            assembler,
            big_endian,
            known: HashMap::new(),
        }
        .level(&self.0, end)
        .label
    }
}

struct Code<'a> {
    assembler: &'a mut Assembler,
    big_endian: bool,
    /// Equal tests with equal targets are written once; a condition after a range comparison is reached
    /// twice.
    known: HashMap<(Test, Label, Label), Entry>,
}

impl Code<'_> {
    fn level(&mut self, nodes: &[Node], end: Entry) -> Entry {
        nodes.iter().rev().fold(end, |next, node| self.node(node, next))
    }

    fn node(&mut self, node: &Node, next: Entry) -> Entry {
        let otherwise = self.branch(&node.otherwise, next);
        let then = self.branch(&node.then, next);
        let Test {
            word,
            compare,
            mask,
            value,
            ..
        } = node.test;
        let (then, otherwise) = (then.from(word, mask), otherwise.from(word, mask));
        if let Some(&entry) = self.known.get(&(node.test, then, otherwise)) {
            return entry;
        }
        let compared = self.assembler.branch(compare, value, then, otherwise);
        let label = self.assembler.load(self.offset(word), mask, compared);
        let entry = Entry {
            label,
            loaded: Some((word, mask, compared)),
        };
        self.known.insert((node.test, then, otherwise), entry);
        entry
    }

    fn branch(&mut self, branch: &Branch, next: Entry) -> Entry {
        match branch.action {
            Some(action) => Entry::at(self.assembler.ret(action)),
            None => self.level(&branch.tests, next),
        }
    }

    /// `offsetof(struct seccomp_data, args)` is 16; the order of an argument's words is that of the machine.
    fn offset(&self, word: u8) -> u32 {
        let word = u32::from(word);
        16 + 4 * if self.big_endian { word ^ 1 } else { word }
    }
}
