//! An interpreter for the classic BPF of seccomp filters, strict: it panics on what the kernel's checker
//! would refuse.

use runtime_core::unstable::plan::seccomp::SockFilter;

/// One system call, as the kernel shows it to a filter (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32, big_endian: bool) -> u32 {
        assert!(
            offset.is_multiple_of(4) && offset < 64,
            "load from offset {offset}"
        );
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let arg = self.args[(offset as usize - 16) / 8];
                let high = (offset % 8 == 4) != big_endian;
                if high { (arg >> 32) as u32 } else { arg as u32 }
            }
        }
    }
}

/// What the filter returns for the call.
pub(crate) fn verdict(program: &[SockFilter], call: &Call, big_endian: bool) -> u32 {
    let mut accumulator = 0_u32;
    let mut at = 0;
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k, big_endian),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x} at {at}"),
        }
    }
}
