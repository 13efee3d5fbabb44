//! Runs in: RUNTIME. Lays out a classic BPF program, from its last instruction to its first, so that every
//! jump target is known when the jump is written. Knows nothing of syscalls.

use super::SockFilter;

/// `BPF_LD | BPF_W | BPF_ABS`: a 32-bit word of `struct seccomp_data` into the accumulator.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;

/// The comparison of a conditional jump; accumulator on the left, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(super) enum Compare {
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    GreaterOrEqual = 0x35,
}

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// Conditional jumps have 8-bit offsets.
const REACH: usize = 255;
/// A return that is at most this far away is shared; beyond that a copy is cheaper than a jump to it would
/// be.
const SHARE: usize = 128;

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<SockFilter>,
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(SockFilter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions a jump at the next place would have to skip.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    /// `return value`.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        if let Some(&(_, label)) = self.returns.iter().rev().find(|(known, _)| *known == value)
            && self.distance(label) <= SHARE
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.push((value, label));
        label
    }

    /// Goes to `then` if the accumulator compares so with `k`, else to `otherwise`.
    pub(super) fn branch(
        &mut self,
        compare: Compare,
        k: u32,
        mut then: Label,
        mut otherwise: Label,
    ) -> Label {
        // Bringing one target near moves the other away by an instruction, hence the loop; it ends, as a
        // target that was brought near is among the last two instructions.
        loop {
            if self.distance(then) > REACH {
                then = self.bring_near(then);
            } else if self.distance(otherwise) > REACH {
                otherwise = self.bring_near(otherwise);
            } else {
                break;
            }
        }
        let (jt, jf) = (self.distance(then) as u8, self.distance(otherwise) as u8);
        self.push(compare as u16, jt, jf, k)
    }

    fn bring_near(&mut self, target: Label) -> Label {
        let instruction = self.reversed[target.0];
        match instruction.code {
            RETURN => self.push(RETURN, 0, 0, instruction.k),
            _ => self.jump(target),
        }
    }

    fn jump(&mut self, target: Label) -> Label {
        let distance = self.distance(target) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    /// Loads the word at `offset`, masks it if asked to, and goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, mask: u32, next: Label) -> Label {
        if self.distance(next) != 0 {
            self.jump(next);
        }
        if mask != u32::MAX {
            self.push(AND, 0, 0, mask);
        }
        self.push(LOAD, 0, 0, offset)
    }

    /// The finished program; its first instruction is the one that was written last.
    pub(super) fn finish(mut self) -> Vec<SockFilter> {
        self.reversed.reverse();
        self.reversed
    }
}
