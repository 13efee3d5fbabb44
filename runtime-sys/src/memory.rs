//! Runs in: RUNTIME (`Image::of_this_program`), then in each of its children, first of all. A child is born
//! with a copy of all the host program's memory: its heap, its stacks, its arguments and environment.
//! Somebody in the container may come to see the child, and so its memory. So a child takes what it needs
//! into memory of its own, moves there, and gives everything else back to the kernel. What stays of the host
//! program is its code and its constants.

use core::cell::Cell;
use core::convert::Infallible;
use core::ffi::{CStr, c_int, c_void};
use core::mem::{align_of, size_of};
use core::ptr;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::{Call, Named, Result, SysError};

/// Bytes of the stack that a child moves to: some paths of 4096 bytes at once, and no recursion without a
/// bound.
const STACK: usize = 256 << 10;
/// Bytes of the first piece of memory for what a child takes along; each further one is twice as large.
const FIRST_PIECE: usize = 128 << 10;
/// How many pieces there may be: enough for all memory that a process can have.
const PIECES: usize = 24;
/// How many ranges of the program's files stay: those of two files, with the gaps between them.
const RANGES: usize = 16;
/// What lies around thread-local variables: the C library's own description of the thread, and the kernel's
/// `struct rseq` in it.
const AROUND_THREAD: usize = 8 << 10;

/// Addresses from `start` up to, but without, `end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Range {
    start: usize,
    end: usize,
}

impl Range {
    fn contains(self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// What of the program's memory its children need as long as they run code of ours.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Code and constants of the files that the code of this crate is in, and the C library's memcpy; of the
    /// latter the variables, too, which that reads.
    kept: [Range; RANGES],
    used: usize,
    /// Bytes of the thread-local variables of all files, at most.
    thread_locals: usize,
    page: usize,
    /// Whether our code would have functions looked up when it first calls them: there is nobody left then to
    /// do it.
    binds_late: bool,
}

impl Image {
    /// Runs in: RUNTIME. Asks the dynamic linker, or what a static program has in its place.
    ///
    /// # Errors
    /// ENOEXEC from no call, for a program or library that binds functions late (`-z lazy`).
    pub fn of_this_program() -> Result<Self> {
        let mut image = Self {
            kept: [Range::default(); RANGES],
            used: 0,
            thread_locals: 0,
            page: rustix::param::page_size(),
            binds_late: false,
        };
        // SAFETY: the callback is called before this returns, with a pointer to `image`, which nothing else
        // uses meanwhile.
        unsafe { libc::dl_iterate_phdr(Some(look_at_file), (&raw mut image).cast()) };
        if image.binds_late {
            return Err(SysError {
                call: Call::None,
                errno: rustix::io::Errno::NOEXEC,
            });
        }
        Ok(image)
    }

    fn keep(&mut self, start: usize, end: usize) {
        let range = Range {
            start: start / self.page * self.page,
            end: end.next_multiple_of(self.page),
        };
        if let Some(slot) = self.kept.get_mut(self.used) {
            *slot = range;
            self.used += 1;
        }
    }

    fn kept(&self) -> &[Range] {
        self.kept.get(..self.used).unwrap_or_default()
    }
}

/// One file of the program, as dl_iterate_phdr(3) shows it.
struct File<'a> {
    address: usize,
    segments: &'a [libc::Elf64_Phdr],
    /// As it was loaded; empty for the program itself.
    name: &'a [u8],
}

impl File<'_> {
    fn of_type(&self, kind: u32) -> impl Iterator<Item = (Range, u32)> {
        let address = self.address;
        let found = self.segments.iter().filter(move |segment| segment.p_type == kind);
        found.map(move |segment| {
            let start = address.wrapping_add(segment.p_vaddr as usize);
            let end = start.wrapping_add(segment.p_memsz as usize);
            (Range { start, end }, segment.p_flags)
        })
    }

    fn contains(&self, address: usize) -> bool {
        self.of_type(libc::PT_LOAD)
            .any(|(range, _)| range.contains(address))
    }

    /// By its name too: the address of a function is that of a stub in a program without position-independent
    /// code, and another library may have put itself before the C library's memcpy.
    fn is_c_library(&self) -> bool {
        let name = self.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let names: [&[u8]; 4] = [b"libc.so", b"libc-2.", b"libc.musl-", b"ld-musl-"];
        names.iter().any(|start| name.starts_with(start))
    }

    /// Whether the addresses of all functions are there before any code of the file runs, and which are
    /// read-only then.
    fn binding(&self) -> Binding {
        let mut has_table = false;
        let mut is_early = false;
        for (range, _) in self.of_type(libc::PT_DYNAMIC) {
            let mut place = ptr::with_exposed_provenance::<[usize; 2]>(range.start);
            loop {
                // SAFETY: the dynamic section is mapped as long as the file is loaded, and ends with DT_NULL.
                let [tag, value] = unsafe { place.read() };
                match tag {
                    0 => break,
                    DT_JMPREL => has_table = true,
                    DT_BIND_NOW => is_early = true,
                    DT_FLAGS => is_early |= value & DF_BIND_NOW != 0,
                    DT_FLAGS_1 => is_early |= value & DF_1_NOW != 0,
                    _ => {}
                }
                place = place.wrapping_add(1);
            }
        }
        let is_sealed = self.of_type(libc::PT_GNU_RELRO).next().is_some();
        match (has_table && !is_early, is_sealed) {
            (true, _) => Binding::Late,
            (false, true) => Binding::ReadOnly,
            (false, false) => Binding::Writable,
        }
    }
}

/// Where the addresses of the functions are that a file calls in others (System V ABI, "Dynamic Linking").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// Among what is made read-only before any code runs.
    ReadOnly,
    /// Among the variables.
    Writable,
    /// Nowhere before the first call.
    Late,
}

const DT_JMPREL: usize = 23;
const DT_BIND_NOW: usize = 24;
const DT_FLAGS: usize = 30;
const DT_FLAGS_1: usize = 0x6fff_fffb;
const DF_BIND_NOW: usize = 8;
const DF_1_NOW: usize = 1;

unsafe extern "C" fn look_at_file(info: *mut libc::dl_phdr_info, _size: usize, image: *mut c_void) -> c_int {
    // SAFETY: the pointer that was given to dl_iterate_phdr.
    let image = unsafe { &mut *image.cast::<Image>() };
    // SAFETY: the C library hands over a live description of one file.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: as many headers as it says, which live as long as the file is loaded.
    let segments = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let name = match info.dlpi_name.is_null() {
        true => &[],
        // SAFETY: a C string, which lives as long as the file is loaded.
        false => unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes(),
    };
    note(
        image,
        &File {
            address: info.dlpi_addr as usize,
            segments,
            name,
        },
    );
    0
}

fn note(image: &mut Image, file: &File<'_>) {
    for (variables, _) in file.of_type(libc::PT_TLS) {
        image.thread_locals += (variables.end - variables.start).next_multiple_of(64);
    }
    let code = of_this_program_address();
    let copy = libc::memcpy as *const () as usize;
    let is_ours = file.contains(code);
    let has_copy = file.contains(copy) || file.is_c_library();
    if !is_ours && !has_copy {
        return;
    }
    // A static program has nothing to look up.
    let is_linked = file.of_type(libc::PT_INTERP).next().is_some() || !has_copy;
    let binding = match is_ours && is_linked {
        true => file.binding(),
        false => Binding::ReadOnly,
    };
    image.binds_late |= binding == Binding::Late;
    for (range, flags) in file.of_type(libc::PT_LOAD) {
        let is_constant = flags & libc::PF_W == 0;
        if is_constant || has_copy || binding == Binding::Writable {
            image.keep(range.start, range.end);
        }
    }
    // What the dynamic linker has written and then made read-only: the addresses of functions. Its last page
    // ends with variables.
    for (range, _) in file.of_type(libc::PT_GNU_RELRO) {
        image.keep(range.start, range.end / image.page * image.page);
    }
}

fn of_this_program_address() -> usize {
    forget_all_but as *const () as usize
}

/// Memory that a child takes along. It is never given back: `execve` or the end of the process does that.
#[derive(Debug)]
pub struct Room {
    pieces: Cell<[Range; PIECES]>,
    used: Cell<usize>,
    next: Cell<usize>,
    end: Cell<usize>,
}

impl Room {
    fn new() -> Self {
        Self {
            pieces: Cell::new([Range::default(); PIECES]),
            used: Cell::new(0),
            next: Cell::new(0),
            end: Cell::new(0),
        }
    }

    /// New memory of at least `size` bytes, all zero.
    fn add(&self, size: usize) -> Result<Range> {
        // SAFETY: asks for a new mapping at an address of the kernel's choice.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = mapped.named(Call::Mmap)?.addr();
        let range = Range {
            start,
            end: start + size,
        };
        let mut pieces = self.pieces.get();
        let used = self.used.get();
        let slot = pieces.get_mut(used).ok_or(SysError {
            call: Call::Mmap,
            errno: rustix::io::Errno::NOMEM,
        })?;
        *slot = range;
        self.pieces.set(pieces);
        self.used.set(used + 1);
        Ok(range)
    }

    /// A place for `size` bytes.
    fn take(&self, size: usize, align: usize) -> Result<*mut u8> {
        let mut start = self.next.get().next_multiple_of(align);
        if start + size > self.end.get() || self.end.get() == 0 {
            let piece = FIRST_PIECE << self.used.get().min(PIECES);
            let range = self.add(piece.max((size + align).next_multiple_of(FIRST_PIECE)))?;
            self.end.set(range.end);
            start = range.start.next_multiple_of(align);
        }
        self.next.set(start + size);
        Ok(ptr::with_exposed_provenance_mut(start))
    }

    /// Moves a value into the room.
    pub fn put<T>(&self, value: T) -> Result<&'static mut T> {
        let place = self.take(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: fresh memory of the right size and alignment, which nobody else has.
        unsafe { place.write(value) };
        // SAFETY: it holds a value now, and is never taken away.
        Ok(unsafe { &mut *place })
    }

    /// Copies plain values into the room.
    pub fn copy<T: Copy + 'static>(&self, values: &[T]) -> Result<&'static mut [T]> {
        let place = self.take(size_of_val(values), align_of::<T>())?.cast::<T>();
        // SAFETY: as many values, in fresh memory that overlaps nothing.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), place, values.len()) };
        // SAFETY: it holds these values now, and is never taken away.
        Ok(unsafe { core::slice::from_raw_parts_mut(place, values.len()) })
    }

    /// Makes one value in the room of each of these.
    pub fn each<T, U>(
        &self,
        values: &[T],
        mut make: impl FnMut(&T) -> Result<U>,
    ) -> Result<&'static mut [U]> {
        let place = self
            .take(size_of::<U>() * values.len(), align_of::<U>())?
            .cast::<U>();
        for (index, value) in values.iter().enumerate() {
            let value = make(value)?;
            // SAFETY: `place` has room for as many values as there are.
            let slot = unsafe { place.add(index) };
            // SAFETY: fresh memory of the right size and alignment.
            unsafe { slot.write(value) };
        }
        // SAFETY: it holds as many values now, and is never taken away.
        Ok(unsafe { core::slice::from_raw_parts_mut(place, values.len()) })
    }

    /// Copies a string into the room.
    pub fn c_str(&self, string: &CStr) -> Result<&'static CStr> {
        let bytes = self.copy(string.to_bytes_with_nul())?;
        // SAFETY: the bytes of a C string, with its null.
        Ok(unsafe { CStr::from_bytes_with_nul_unchecked(bytes) })
    }

    fn pieces(&self) -> ([Range; PIECES], usize) {
        (self.pieces.get(), self.used.get())
    }
}

/// Something that a child takes along: all of it, whatever it refers to.
pub trait Carry {
    /// The same, in a [`Room`].
    type Carried: 'static;

    /// Runs in: the child. Copies it.
    ///
    /// # Errors
    /// No memory.
    fn carry(&self, room: &Room) -> Result<Self::Carried>;
}

impl Carry for BorrowedFd<'_> {
    type Carried = BorrowedFd<'static>;

    fn carry(&self, _room: &Room) -> Result<BorrowedFd<'static>> {
        // SAFETY: a descriptor that the child inherits and, being told to keep it, does not close before its
        // last use.
        Ok(unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) })
    }
}

/// What a child is: its arguments, and what it does with them.
pub trait Role: Carry {
    /// Runs in: the child, with its arguments and nothing else of the host program's memory.
    fn run(args: Self::Carried) -> !;

    /// Runs in: the child, where the host program's memory could not be given back. Says so, and ends.
    fn give_up(args: &Self::Carried, error: SysError) -> !;
}

/// What is on the way from the one stack to the other.
struct HandOver<T> {
    image: Image,
    pieces: [Range; PIECES],
    used: usize,
    args: T,
}

/// Runs in: the child, first of all. Takes `args` along, and goes on in [`Role::run`] with nothing else of
/// the host program's memory; or in [`Role::give_up`], if the rest could not be given back. Returns only if
/// not even the first of that could be done.
///
/// # Errors
/// No memory.
pub fn leave_host<R: Role>(image: &Image, args: &R) -> Result<Infallible> {
    let room = Room::new();
    let stack = room.add(STACK)?;
    // An overflow must not go on into what lies below.
    // SAFETY: the first page of memory that nobody uses yet.
    unsafe {
        rustix::mm::mprotect(
            ptr::with_exposed_provenance_mut(stack.start),
            image.page,
            MprotectFlags::empty(),
        )
    }
    .named(Call::Mmap)?;
    let args = args.carry(&room)?;
    // The last piece of it that is put into the room: from here on no piece is added.
    let hand_over = HandOver {
        image: *image,
        pieces: [Range::default(); PIECES],
        used: 0,
        args,
    };
    let hand_over = room.put(hand_over)?;
    (hand_over.pieces, hand_over.used) = room.pieces();
    // SAFETY: the top of a stack that nobody uses, and a function that takes this very argument.
    unsafe { call_on_stack(stack.end, arrive::<R>, hand_over) }
}

extern "C" fn arrive<R: Role>(hand_over: *mut HandOver<R::Carried>) -> ! {
    // SAFETY: put into the room by `leave_host`, which has given up its own reference.
    let hand_over = unsafe { hand_over.read() };
    let pieces = hand_over.pieces.get(..hand_over.used).unwrap_or_default();
    match forget_all_but(&hand_over.image, pieces) {
        Ok(()) => R::run(hand_over.args),
        Err(error) => R::give_up(&hand_over.args, error),
    }
}

/// Gives all memory back to the kernel but the program's code and `pieces`.
fn forget_all_but(image: &Image, pieces: &[Range]) -> Result<()> {
    let mut kept = [Range::default(); RANGES + PIECES + 1];
    let mut count = 0;
    for range in image.kept().iter().chain(pieces) {
        if let Some(slot) = kept.get_mut(count) {
            *slot = *range;
            count += 1;
        }
    }
    let thread = clear_thread(image, kept.get(..count).unwrap_or_default())?;
    if let Some(slot) = kept.get_mut(count) {
        *slot = thread;
        count += 1;
    }
    let kept = kept.get_mut(..count).unwrap_or_default();
    kept.sort_unstable_by_key(|range| range.start);
    let mut end = 0;
    for range in kept {
        if range.start > end {
            unmap(image.page, end, range.start)?;
        }
        end = end.max(range.end);
    }
    unmap_to_the_top(image.page, end)
}

/// errno is a thread-local variable, and the kernel writes to the `struct rseq` of the C library whenever it
/// likes (rseq(2)): something must lie there. It is exchanged for memory that is all zero, in one call. Where
/// that is depends on the C library: somewhere around errno.
fn clear_thread(image: &Image, kept: &[Range]) -> Result<Range> {
    // SAFETY: takes nothing, and returns an address in this thread's own block of variables.
    let errno = unsafe { libc::__errno_location() }.addr();
    let around = image.thread_locals + AROUND_THREAD;
    let mut zone = Range {
        start: errno.saturating_sub(around) / image.page * image.page,
        end: (errno + around).next_multiple_of(image.page),
    };
    for range in kept {
        if range.contains(errno) {
            // Part of what stays as it is.
            return Ok(Range::default());
        }
        if range.end <= errno {
            zone.start = zone.start.max(range.end);
        } else {
            zone.end = zone.end.min(range.start);
        }
    }
    let thread = thread_pointer();
    let zone = match map_zeroes(zone) {
        Err(error) if error.errno == rustix::io::Errno::INVAL => map_around(image.page, errno, zone)?,
        other => other?,
    };
    // The C library finds the thread there: struct tcbhead_t of glibc, with `tcb` and `self`; struct pthread
    // of musl, with `self`.
    for place in [thread, thread.wrapping_add(2 * size_of::<usize>())] {
        if thread != 0 && zone.contains(place) {
            let word = ptr::with_exposed_provenance_mut::<usize>(place);
            // SAFETY: a word of the memory that was mapped just now.
            unsafe { word.write(thread) };
        }
    }
    Ok(zone)
}

/// The kernel's own mappings, such as \[vvar\], cannot be cut in two (EINVAL). Nothing of the C library's
/// lies there: then as much is exchanged around errno as they leave room for, page by page.
fn map_around(page: usize, errno: usize, zone: Range) -> Result<Range> {
    let start = errno / page * page;
    let mut mapped = map_zeroes(Range {
        start,
        end: start + page,
    })?;
    while mapped.start > zone.start {
        match map_zeroes(Range {
            start: mapped.start - page,
            end: mapped.start,
        }) {
            Ok(below) => mapped.start = below.start,
            Err(error) if error.errno == rustix::io::Errno::INVAL => break,
            Err(error) => return Err(error),
        }
    }
    while mapped.end < zone.end {
        match map_zeroes(Range {
            start: mapped.end,
            end: mapped.end + page,
        }) {
            Ok(above) => mapped.end = above.end,
            Err(error) if error.errno == rustix::io::Errno::INVAL => break,
            Err(error) => return Err(error),
        }
    }
    Ok(mapped)
}

/// Exchanges what lies there for memory that is all zero.
fn map_zeroes(range: Range) -> Result<Range> {
    // SAFETY: only for the surroundings of errno: nothing of ours lies there but errno, which no caller
    // relies on across this, and nothing that stays.
    unsafe {
        rustix::mm::mmap_anonymous(
            ptr::with_exposed_provenance_mut(range.start),
            range.end - range.start,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
        )
    }
    .named(Call::Mmap)?;
    Ok(range)
}

/// Where thread-local variables are found by a word that holds its own address (System V ABI for x86-64,
/// 3.4.6: `%fs:0`), and not by a register alone: that address. 0 elsewhere.
fn thread_pointer() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let pointer;
        // SAFETY: reads the word that the ABI puts there.
        unsafe { core::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly)) };
        pointer
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// Mappings that are sealed (mseal(2), such as the kernel's own \[vdso\]) cannot be given back, and keep all
/// others of a call from it: then each half is tried by itself.
fn unmap(page: usize, start: usize, end: usize) -> Result<()> {
    // SAFETY: nothing that is still used lies there: `forget_all_but` leaves that out.
    let done = unsafe { rustix::mm::munmap(ptr::with_exposed_provenance_mut(start), end - start) };
    match done {
        Err(rustix::io::Errno::PERM) if end - start <= page => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let middle = start + ((end - start) / 2).next_multiple_of(page);
            unmap(page, start, middle)?;
            unmap(page, middle, end)
        }
        other => other.named(Call::Munmap),
    }
}

/// Where the addresses of a process end depends on the processor, and on the kernel's configuration: EINVAL
/// beyond it.
fn unmap_to_the_top(page: usize, start: usize) -> Result<()> {
    const BITS: [u32; 9] = [57, 56, 53, 52, 48, 47, 46, 42, 39];
    let tops = BITS.map(|bits| 1usize << bits);
    // x86 leaves the last page out.
    for top in tops.into_iter().flat_map(|top| [top, top - page]) {
        if top <= start {
            break;
        }
        match unmap(page, start, top) {
            Err(SysError {
                errno: rustix::io::Errno::INVAL,
                ..
            }) => {}
            other => return other,
        }
    }
    Ok(())
}

/// Calls `function` with `argument` on another stack, for good.
///
/// # Safety
/// `top` is the upper end of memory that can be written, large enough, and used by nobody.
#[cfg(target_arch = "x86_64")]
unsafe fn call_on_stack<T>(top: usize, function: extern "C" fn(*mut T) -> !, argument: *mut T) -> ! {
    // SAFETY: the caller vouches for the stack; nothing of the old one is used any more.
    unsafe {
        core::arch::asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {function}",
            "ud2",
            top = in(reg) top,
            function = in(reg) function,
            in("rdi") argument,
            options(noreturn),
        )
    }
}

/// Calls `function` with `argument` on another stack, for good.
///
/// # Safety
/// `top` is the upper end of memory that can be written, large enough, and used by nobody.
#[cfg(target_arch = "aarch64")]
unsafe fn call_on_stack<T>(top: usize, function: extern "C" fn(*mut T) -> !, argument: *mut T) -> ! {
    // SAFETY: the caller vouches for the stack; nothing of the old one is used any more.
    unsafe {
        core::arch::asm!(
            "mov sp, {top}",
            "mov x29, xzr",
            "mov x30, xzr",
            "br {function}",
            top = in(reg) top,
            function = in(reg) function,
            in("x0") argument,
            options(noreturn),
        )
    }
}

/// Values that refer to nothing.
macro_rules! plain {
    ($($name:ty),* $(,)?) => {$(
        impl Carry for $name {
            type Carried = Self;

            fn carry(&self, _room: &Room) -> Result<Self> {
                Ok(*self)
            }
        }

        impl CarryAll for $name {
            fn carry_all(values: &[Self], room: &Room) -> Result<&'static mut [Self]> {
                room.copy(values)
            }
        }
    )*};
}

/// How a list of something is taken along: as bytes, or one after the other.
pub trait CarryAll: Carry + Sized {
    /// Runs in: the child. Copies all of them.
    ///
    /// # Errors
    /// No memory.
    fn carry_all(values: &[Self], room: &Room) -> Result<&'static mut [Self::Carried]> {
        room.each(values, |value| value.carry(room))
    }
}

plain! {
    bool, u8, u16, u32, u64, usize, i32, i64,
    super::process::SchedAttr, super::process::SockFilter, super::mount::MountAttr, super::fs::Identity,
    super::namespace::Kinds,
    (i32, i32), (u64, u64), (u64, bool), (super::mount::MountAttr, bool), (u16, super::process::Resource, u64, u64), (u16, u16),
}

impl CarryAll for BorrowedFd<'_> {}

impl Carry for &CStr {
    type Carried = &'static CStr;

    fn carry(&self, room: &Room) -> Result<&'static CStr> {
        room.c_str(self)
    }
}

impl CarryAll for &CStr {}

impl<T: CarryAll> Carry for &[T] {
    type Carried = &'static [T::Carried];

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        T::carry_all(self, room).map(|carried| &*carried)
    }
}

impl<T: CarryAll> Carry for &mut [T] {
    type Carried = &'static mut [T::Carried];

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        T::carry_all(self, room)
    }
}

impl<T: Carry> Carry for Option<T> {
    type Carried = Option<T::Carried>;

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        self.as_ref().map(|value| value.carry(room)).transpose()
    }
}

/// Three standard streams.
impl<T: Carry> Carry for [T; 3] {
    type Carried = [T::Carried; 3];

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        let [first, second, third] = self;
        Ok([first.carry(room)?, second.carry(room)?, third.carry(room)?])
    }
}

/// Options of mounts.
impl Carry for (&CStr, Option<&CStr>) {
    type Carried = (&'static CStr, Option<&'static CStr>);

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok((self.0.carry(room)?, self.1.carry(room)?))
    }
}

impl CarryAll for (&CStr, Option<&CStr>) {}

/// Places with the index of what they belong to.
impl Carry for (u16, &CStr) {
    type Carried = (u16, &'static CStr);

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok((self.0, self.1.carry(room)?))
    }
}

impl CarryAll for (u16, &CStr) {}

/// The two halves of a state.
impl Carry for (&[u8], &[u8]) {
    type Carried = (&'static [u8], &'static [u8]);

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok((self.0.carry(room)?, self.1.carry(room)?))
    }
}

/// A memory policy.
impl Carry for (i32, &[u64]) {
    type Carried = (i32, &'static [u64]);

    fn carry(&self, room: &Room) -> Result<Self::Carried> {
        Ok((self.0, self.1.carry(room)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(kind: u32, start: usize, size: usize) -> libc::Elf64_Phdr {
        // SAFETY: a struct of integers, for which all zeroes is a valid value.
        let mut segment: libc::Elf64_Phdr = unsafe { core::mem::zeroed() };
        segment.p_type = kind;
        segment.p_vaddr = start as u64;
        segment.p_memsz = size as u64;
        segment
    }

    #[test]
    fn functions_that_are_looked_up_late_are_seen() {
        let end = [0, 0];
        let table = [DT_JMPREL, 0x1000];
        for (entries, is_sealed, wanted) in [
            ([table, end, end], true, Binding::Late),
            ([table, end, end], false, Binding::Late),
            (
                [table, [DT_FLAGS, 2], [DT_FLAGS_1, 0x0800_0000]],
                true,
                Binding::Late,
            ),
            ([table, [DT_FLAGS, 8], end], true, Binding::ReadOnly),
            ([[DT_FLAGS_1, 0x0800_0001], table, end], true, Binding::ReadOnly),
            ([[DT_BIND_NOW, 0], table, end], true, Binding::ReadOnly),
            ([[DT_FLAGS_1, 1], table, end], false, Binding::Writable),
            ([end, table, end], true, Binding::ReadOnly),
            ([end, end, end], false, Binding::Writable),
        ] {
            let dynamic = [entries[0], entries[1], entries[2], end];
            let segments = [
                segment(
                    libc::PT_DYNAMIC,
                    ptr::from_ref(&dynamic).expose_provenance(),
                    size_of_val(&dynamic),
                ),
                segment(libc::PT_GNU_RELRO, 0x2000, 0x1000),
            ];
            let (unsealed, _) = segments.split_at(1);
            let file = File {
                address: 0,
                segments: if is_sealed { &segments } else { unsealed },
                name: b"",
            };
            assert_eq!(file.binding(), wanted, "{entries:x?} {is_sealed}");
        }
    }

    #[test]
    fn the_c_library_is_known_by_its_name() {
        for (name, wanted) in [
            (&b"/lib/x86_64-linux-gnu/libc.so.6"[..], true),
            (b"/lib/libc-2.31.so", true),
            (b"/lib/ld-musl-x86_64.so.1", true),
            (b"/lib/libcrypto.so.3", false),
            (b"/opt/libc.so/libjemalloc.so.2", false),
            (b"", false),
        ] {
            let file = File {
                address: 0,
                segments: &[],
                name,
            };
            assert_eq!(file.is_c_library(), wanted, "{}", name.escape_ascii());
        }
    }

    #[test]
    #[allow(clippy::unwrap_used, reason = "a test may fail")]
    fn what_is_needed_of_this_program_is_kept() {
        let image = Image::of_this_program().unwrap();
        let functions = [
            of_this_program_address(),
            libc::memcpy as *const () as usize,
            libc::syscall as *const () as usize,
        ];
        for function in functions {
            assert!(image.kept().iter().any(|range| range.contains(function)));
        }
    }
}
