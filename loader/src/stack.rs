//! The initial stack: strings, auxiliary vector, environment and argument pointers, as `create_elf_tables` lays them out.

use crate::LoadError;
use crate::errno::E2BIG;
use alloc::vec;
use alloc::vec::Vec;

/// Longest single argument with its NUL (`MAX_ARG_STRLEN`).
pub const MAX_STRING: usize = 131_072;

/// What the auxiliary vector tells (getauxval(3)).
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the names are getauxval(3)'s, without AT_")]
pub struct Auxiliary {
    pub sysinfo_ehdr: u64,
    pub minsigstksz: u64,
    pub hwcap: u64,
    pub hwcap2: u64,
    pub phdr: u64,
    pub phent: u64,
    pub phnum: u64,
    pub base: u64,
    pub entry: u64,
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    pub secure: bool,
    pub random: [u8; 16],
}

/// A stack, ready to be copied to the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Address of the first byte: the initial stack pointer, 16-byte aligned.
    pub pointer: u64,
    /// Everything from there up to the stack's top.
    pub bytes: Vec<u8>,
    /// `[start, end)` of the argument strings.
    pub arguments: (u64, u64),
    /// `[start, end)` of the environment strings.
    pub environment: (u64, u64),
    /// The auxiliary vector's bytes (`/proc/PID/auxv`).
    pub auxiliary: Vec<u8>,
}

/// Bytes that arguments and environment may take for a stack limit: a quarter of it, at least 128 KiB, at most 6 MiB.
pub fn limit(stack_limit: u64) -> u64 {
    (stack_limit / 4).clamp(128 << 10, 6 << 20)
}

/// Lays the stack out below `top` (16-byte aligned). `E2BIG` beyond `limit` bytes of strings and pointers.
pub fn build(
    top: u64,
    limit: u64,
    argv: &[Vec<u8>],
    envp: &[Vec<u8>],
    file_name: &[u8],
    auxiliary: &Auxiliary,
) -> Result<Stack, LoadError> {
    const TOO_BIG: LoadError = LoadError::new(E2BIG, "arguments and environment are too large");
    let strings = || argv.iter().chain(envp);
    if strings().chain([&file_name.to_vec()]).any(|string| string.len() >= MAX_STRING) {
        return Err(TOO_BIG);
    }
    let total: usize = strings().map(|string| string.len() + 1).sum::<usize>() + file_name.len() + 1;
    let pointers = (argv.len() + envp.len()) * 8;
    if (total + pointers) as u64 > limit {
        return Err(TOO_BIG);
    }

    // From the top down: a null word, the file name, environment strings, argument strings, (gap), platform, random bytes, vectors.
    let strings_end = top - 8;
    let name_at = strings_end - (file_name.len() as u64 + 1);
    let length_of = |list: &[Vec<u8>]| list.iter().map(|string| string.len() as u64 + 1).sum::<u64>();
    let environment_at = name_at - length_of(envp);
    let arguments_at = environment_at - length_of(argv);
    const PLATFORM: &[u8] = b"x86_64\0";
    let platform_at = (arguments_at & !15) - 16;
    let random_at = platform_at - 16;

    let vector = [
        (33, auxiliary.sysinfo_ehdr),
        (51, auxiliary.minsigstksz),
        (16, auxiliary.hwcap),
        (6, 4096),
        (17, 100),
        (3, auxiliary.phdr),
        (4, auxiliary.phent),
        (5, auxiliary.phnum),
        (7, auxiliary.base),
        (8, 0),
        (9, auxiliary.entry),
        (11, u64::from(auxiliary.uid)),
        (12, u64::from(auxiliary.euid)),
        (13, u64::from(auxiliary.gid)),
        (14, u64::from(auxiliary.egid)),
        (23, u64::from(auxiliary.secure)),
        (25, random_at),
        (26, auxiliary.hwcap2),
        (31, name_at),
        (15, platform_at),
        (0, 0),
    ];
    let mut auxv = Vec::new();
    for (key, value) in vector {
        // A host without a vDSO has no entry for one.
        if key == 33 && value == 0 {
            continue;
        }
        auxv.extend_from_slice(&u64::to_le_bytes(key));
        auxv.extend_from_slice(&value.to_le_bytes());
    }

    let words = 1 + argv.len() + 1 + envp.len() + 1;
    let pointer = (random_at - (words * 8 + auxv.len()) as u64) & !15;
    let mut bytes = vec![0u8; (top - pointer) as usize];
    let mut put = |address: u64, data: &[u8]| {
        let at = (address - pointer) as usize;
        if let Some(room) = bytes.get_mut(at..at + data.len()) {
            room.copy_from_slice(data);
        }
    };
    let mut word_at = pointer;
    put(word_at, &(argv.len() as u64).to_le_bytes());
    let mut string_at = arguments_at;
    for list in [argv, envp] {
        for string in list {
            word_at += 8;
            put(word_at, &string_at.to_le_bytes());
            put(string_at, string);
            string_at += string.len() as u64 + 1;
        }
        word_at += 8; // the null pointer
    }
    put(word_at + 8, &auxv);
    put(name_at, file_name);
    put(platform_at, PLATFORM);
    put(random_at, &auxiliary.random);
    Ok(Stack {
        pointer,
        bytes,
        arguments: (arguments_at, environment_at),
        environment: (environment_at, name_at),
        auxiliary: auxv,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(stack: &Stack, address: u64) -> u64 {
        let at = (address - stack.pointer) as usize;
        stack.bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    fn string(stack: &Stack, address: u64) -> Vec<u8> {
        let at = (address - stack.pointer) as usize;
        stack.bytes[at..].iter().take_while(|&&byte| byte != 0).copied().collect()
    }

    #[test]
    fn a_program_finds_its_arguments_and_environment_at_the_stack_pointer() {
        let argv = [b"prog".to_vec(), b"arg".to_vec()];
        let envp = [b"A=1".to_vec()];
        let top = 0x7fff_0000_0000;
        let stack = build(top, limit(8 << 20), &argv, &envp, b"/bin/prog", &Auxiliary::default()).unwrap();
        assert_eq!(stack.pointer % 16, 0);
        assert_eq!(word(&stack, stack.pointer), 2);
        assert_eq!(string(&stack, word(&stack, stack.pointer + 8)), b"prog");
        assert_eq!(string(&stack, word(&stack, stack.pointer + 16)), b"arg");
        assert_eq!(word(&stack, stack.pointer + 24), 0);
        assert_eq!(string(&stack, word(&stack, stack.pointer + 32)), b"A=1");
        assert_eq!(word(&stack, stack.pointer + 40), 0);
        assert_eq!(word(&stack, stack.pointer + 48), 51, "the auxiliary vector follows");
        assert_eq!(stack.arguments.1, stack.environment.0);
    }

    #[test]
    fn one_string_or_all_together_can_be_too_long() {
        let build = |argv: &[Vec<u8>], limit| build(1 << 40, limit, argv, &[], b"", &Auxiliary::default());
        assert!(build(&[vec![b'a'; MAX_STRING - 1]], 1 << 20).is_ok());
        assert_eq!(build(&[vec![b'a'; MAX_STRING]], 1 << 20).map_err(|error| error.errno), Err(E2BIG));
        assert_eq!(build(&vec![vec![b'a'; 1000]; 200], 128 << 10).map_err(|error| error.errno), Err(E2BIG));
    }
}
