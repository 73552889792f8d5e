//! Classes of characters as terminals see them: Latin-1, as Linux's `lib/ctype.c` has it.

/// A control character, which moves the cursor by itself or not at all.
pub fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, 0xc0..=0xd6 | 0xd8..=0xde)
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || matches!(byte, 0xdf..=0xf6 | 0xf8..=0xff)
}

/// Part of a word, for the erasure of words.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_' || is_upper(byte) || is_lower(byte)
}

/// As `OLCUC` has it.
pub fn to_upper(byte: u8) -> u8 {
    if is_lower(byte) { byte - 0x20 } else { byte }
}

/// As `IUCLC` has it.
pub fn to_lower(byte: u8) -> u8 {
    if is_upper(byte) { byte + 0x20 } else { byte }
}

/// Not the first byte of a character in UTF-8.
pub fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
