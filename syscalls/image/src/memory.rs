//! The mem* functions that compiled code calls. In assembly, because a Rust loop would be compiled into a call of itself.
//!
//! Nearly all that the kernel copies is smaller than a page, which vector registers do at once; the string instructions take
//! dozens of cycles to get going, and hundreds where source and destination lie badly to each other.

/// The functions, with this in front of their names.
macro_rules! functions {
    ($prefix:literal) => {
        core::arch::global_asm!(concat!(
            ".globl ",
            $prefix,
            "memcpy\n",
            $prefix,
            "memcpy:\n",
            "mov rax, rdi\n",
            "cmp rdx, 16\n",
            "jb 2f\n",
            "cmp rdx, 32\n",
            "ja 3f\n",
            // 16 to 32 bytes: two overlapping halves. Here and below everything is read before anything is written.
            "movups xmm0, [rsi]\n",
            "movups xmm1, [rsi + rdx - 16]\n",
            "movups [rdi], xmm0\n",
            "movups [rdi + rdx - 16], xmm1\n",
            "ret\n",
            "2:\n",
            "cmp edx, 8\n",
            "jb 4f\n",
            "mov rcx, [rsi]\n",
            "mov r8, [rsi + rdx - 8]\n",
            "mov [rdi], rcx\n",
            "mov [rdi + rdx - 8], r8\n",
            "ret\n",
            "4:\n",
            "cmp edx, 4\n",
            "jb 5f\n",
            "mov ecx, [rsi]\n",
            "mov r8d, [rsi + rdx - 4]\n",
            "mov [rdi], ecx\n",
            "mov [rdi + rdx - 4], r8d\n",
            "ret\n",
            "5:\n",
            "test edx, edx\n",
            "je 6f\n",
            "movzx ecx, byte ptr [rsi]\n",
            "cmp edx, 1\n",
            "je 7f\n",
            "movzx r8d, word ptr [rsi + rdx - 2]\n",
            "mov [rdi + rdx - 2], r8w\n",
            "7:\n",
            "mov [rdi], cl\n",
            "6:\n",
            "ret\n",
            "3:\n",
            "cmp rdx, 64\n",
            "ja 8f\n",
            "movups xmm0, [rsi]\n",
            "movups xmm1, [rsi + 16]\n",
            "movups xmm2, [rsi + rdx - 32]\n",
            "movups xmm3, [rsi + rdx - 16]\n",
            "movups [rdi], xmm0\n",
            "movups [rdi + 16], xmm1\n",
            "movups [rdi + rdx - 32], xmm2\n",
            "movups [rdi + rdx - 16], xmm3\n",
            "ret\n",
            "8:\n",
            "cmp rdx, 32768\n",
            "jae 9f\n",
            // Forwards, 64 bytes at a time; the last 64 are read first.
            $prefix,
            "memcpy_forwards:\n",
            "movups xmm4, [rsi + rdx - 64]\n",
            "movups xmm5, [rsi + rdx - 48]\n",
            "movups xmm6, [rsi + rdx - 32]\n",
            "movups xmm7, [rsi + rdx - 16]\n",
            "lea r8, [rdi + rdx - 64]\n",
            "2:\n",
            "movups xmm0, [rsi]\n",
            "movups xmm1, [rsi + 16]\n",
            "movups xmm2, [rsi + 32]\n",
            "movups xmm3, [rsi + 48]\n",
            "movups [rdi], xmm0\n",
            "movups [rdi + 16], xmm1\n",
            "movups [rdi + 32], xmm2\n",
            "movups [rdi + 48], xmm3\n",
            "add rsi, 64\n",
            "add rdi, 64\n",
            "cmp rdi, r8\n",
            "jb 2b\n",
            "movups [r8], xmm4\n",
            "movups [r8 + 16], xmm5\n",
            "movups [r8 + 32], xmm6\n",
            "movups [r8 + 48], xmm7\n",
            "ret\n",
            "9:\n",
            "mov rcx, rdx\n",
            "rep movsb\n",
            "ret\n",
            ".globl ",
            $prefix,
            "memmove\n",
            $prefix,
            "memmove:\n",
            "cmp rdx, 64\n",
            "jbe ",
            $prefix,
            "memcpy\n",
            "mov rax, rdi\n",
            "mov rcx, rdi\n",
            "sub rcx, rsi\n",
            "cmp rcx, rdx\n",
            // To is below from, or does not overlap it: forwards.
            "jae ",
            $prefix,
            "memcpy_forwards\n",
            "movups xmm4, [rsi]\n",
            "movups xmm5, [rsi + 16]\n",
            "movups xmm6, [rsi + 32]\n",
            "movups xmm7, [rsi + 48]\n",
            "3:\n",
            "movups xmm0, [rsi + rdx - 16]\n",
            "movups xmm1, [rsi + rdx - 32]\n",
            "movups xmm2, [rsi + rdx - 48]\n",
            "movups xmm3, [rsi + rdx - 64]\n",
            "movups [rdi + rdx - 16], xmm0\n",
            "movups [rdi + rdx - 32], xmm1\n",
            "movups [rdi + rdx - 48], xmm2\n",
            "movups [rdi + rdx - 64], xmm3\n",
            "sub rdx, 64\n",
            "cmp rdx, 64\n",
            "ja 3b\n",
            "movups [rdi], xmm4\n",
            "movups [rdi + 16], xmm5\n",
            "movups [rdi + 32], xmm6\n",
            "movups [rdi + 48], xmm7\n",
            "ret\n",
            ".globl ",
            $prefix,
            "memset\n",
            $prefix,
            "memset:\n",
            "mov r8, rdi\n",
            "movzx eax, sil\n",
            "mov r9, 0x0101010101010101\n",
            "imul r9, rax\n",
            "cmp rdx, 16\n",
            "jb 2f\n",
            "cmp rdx, 4096\n",
            "jae 4f\n",
            "movq xmm0, r9\n",
            "punpcklqdq xmm0, xmm0\n",
            "lea rcx, [rdi + rdx - 16]\n",
            "3:\n",
            "movups [rdi], xmm0\n",
            "add rdi, 16\n",
            "cmp rdi, rcx\n",
            "jb 3b\n",
            "movups [rcx], xmm0\n",
            "mov rax, r8\n",
            "ret\n",
            "4:\n",
            "mov rcx, rdx\n",
            "rep stosb\n",
            "mov rax, r8\n",
            "ret\n",
            "2:\n",
            "cmp edx, 8\n",
            "jb 5f\n",
            "mov [rdi], r9\n",
            "mov [rdi + rdx - 8], r9\n",
            "mov rax, r8\n",
            "ret\n",
            "5:\n",
            "cmp edx, 4\n",
            "jb 6f\n",
            "mov [rdi], r9d\n",
            "mov [rdi + rdx - 4], r9d\n",
            "mov rax, r8\n",
            "ret\n",
            "6:\n",
            "test edx, edx\n",
            "je 8f\n",
            "mov [rdi], r9b\n",
            "cmp edx, 1\n",
            "je 8f\n",
            "mov [rdi + rdx - 2], r9w\n",
            "8:\n",
            "mov rax, r8\n",
            "ret\n",
            ".globl ",
            $prefix,
            "memcmp\n",
            ".globl ",
            $prefix,
            "bcmp\n",
            $prefix,
            "memcmp:\n",
            $prefix,
            "bcmp:\n",
            "cmp rdx, 8\n",
            "jb 3f\n",
            "lea r9, [rdx - 8]\n",
            "xor ecx, ecx\n",
            // Eight bytes at a time, the last eight once more if need be.
            "2:\n",
            "mov rax, [rdi + rcx]\n",
            "mov r8, [rsi + rcx]\n",
            "cmp rax, r8\n",
            "jne 4f\n",
            "cmp rcx, r9\n",
            "je 5f\n",
            "add rcx, 8\n",
            "cmp rcx, r9\n",
            "cmova rcx, r9\n",
            "jmp 2b\n",
            "5:\n",
            "xor eax, eax\n",
            "ret\n",
            "4:\n",
            "bswap rax\n",
            "bswap r8\n",
            "cmp rax, r8\n",
            "sbb eax, eax\n",
            "or eax, 1\n",
            "ret\n",
            "3:\n",
            "xor ecx, ecx\n",
            "6:\n",
            "cmp rcx, rdx\n",
            "je 5b\n",
            "movzx eax, byte ptr [rdi + rcx]\n",
            "movzx r8d, byte ptr [rsi + rcx]\n",
            "inc rcx\n",
            "sub eax, r8d\n",
            "je 6b\n",
            "ret\n",
            ".globl ",
            $prefix,
            "strlen\n",
            $prefix,
            "strlen:\n",
            "xor eax, eax\n",
            "7:\n",
            "cmp byte ptr [rdi + rax], 0\n",
            "je 8f\n",
            "inc rax\n",
            "jmp 7b\n",
            "8:\n",
            "ret\n",
        ));
    };
}

#[cfg(not(test))]
functions!("");

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::ffi::c_void;

    functions!("tested_");

    unsafe extern "C" {
        fn tested_memcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
        fn tested_memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
        fn tested_memset(to: *mut c_void, value: i32, length: usize) -> *mut c_void;
        fn tested_memcmp(one: *const c_void, other: *const c_void, length: usize) -> i32;
        fn tested_strlen(text: *const c_void) -> usize;
    }

    /// Lengths around every bound in the code, and some between.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..200).chain([255, 256, 257, 1000, 4095, 4096, 4097, 32767, 32768, 40000])
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[test]
    fn a_copy_changes_what_it_is_to_and_nothing_else() {
        for length in lengths() {
            for (from, to) in [(0, 0), (1, 0), (0, 3), (13, 7)] {
                let source = bytes(length + 64);
                let mut copied = vec![0xaa; length + 64];
                let mut wanted = copied.clone();
                wanted[to..to + length].copy_from_slice(&source[from..from + length]);
                let place = copied[to..].as_mut_ptr().cast();
                // SAFETY: both have room for `length` bytes there.
                let result = unsafe { tested_memcpy(place, source[from..].as_ptr().cast(), length) };
                assert!(result == place && copied == wanted, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn a_move_may_overlap_either_way() {
        for length in lengths() {
            for (from, to) in
                [(0, 1), (1, 0), (0, 8), (8, 0), (0, 63), (63, 0), (0, 64), (70, 3), (5, 5), (0, 100)]
            {
                let mut moved = bytes(length + 128);
                let mut wanted = moved.clone();
                wanted.copy_within(from..from + length, to);
                let start: *mut u8 = moved.as_mut_ptr();
                // SAFETY: the buffer has room for both.
                unsafe { tested_memmove(start.add(to).cast(), start.add(from).cast(), length) };
                assert!(moved == wanted, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn a_fill_changes_what_it_is_to_and_nothing_else() {
        for length in lengths() {
            let mut filled = bytes(length + 32);
            let mut wanted = filled.clone();
            wanted[9..9 + length].fill(0x5c);
            // SAFETY: there is room.
            unsafe { tested_memset(filled[9..].as_mut_ptr().cast(), 0x35c, length) };
            assert!(filled == wanted, "{length} bytes");
        }
    }

    #[test]
    fn a_comparison_orders_by_the_first_byte_that_differs() {
        for length in lengths() {
            let one = bytes(length);
            // SAFETY: both are that long.
            let compare = |other: &[u8]| unsafe {
                tested_memcmp(one.as_ptr().cast(), other.as_ptr().cast(), length).cmp(&0)
            };
            assert_eq!(compare(&one), Ordering::Equal);
            for at in [0, length / 2, length.saturating_sub(9), length.saturating_sub(1)] {
                if at < length {
                    let mut other = one.clone();
                    other[at] ^= 0x80;
                    if let Some(last) = other.get_mut(length - 1).filter(|_| at + 1 < length) {
                        *last = last.wrapping_add(1);
                    }
                    assert_eq!(compare(&other), one.cmp(&other), "byte {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_string_ends_at_its_first_zero() {
        // SAFETY: the text has an end.
        assert_eq!(unsafe { tested_strlen(c"four".as_ptr().cast()) }, 4);
    }
}
