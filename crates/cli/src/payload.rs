//! Payload bytes as text.
//!
//! Whatever the bytes are, what comes out is one line, and nothing in it is a command to a
//! terminal. Escapes are those of Rust's strings, so that the bytes can be told from the text.

use std::fmt::Write as _;

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]).collect()
}

/// Two digits for each byte, with spaces between them.
pub(crate) fn spaced(bytes: &[u8]) -> String {
    let digits = |byte: &u8| format!("{byte:02x}");
    bytes.iter().map(digits).collect::<Vec<_>>().join(" ")
}

/// Text as it is; what does not print, backslashes, and bytes that are no UTF-8 escaped.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").ok();
        }
    }
    text
}

/// The same, cut to so many columns; three dots say that it was cut.
pub(crate) fn shortened(bytes: &[u8], columns: usize) -> String {
    // No character is longer than four bytes, and each is at least one column wide.
    let enough = columns.saturating_add(1).saturating_mul(4);
    let text = escaped(bytes.get(..enough).unwrap_or(bytes));
    console::truncate_str(&text, columns, "...").into_owned()
}

/// One line of JSON, otherwise as it is; none when the bytes are no JSON.
pub(crate) fn json(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).ok()?;
    // In valid JSON a line ends between two tokens only, never inside a string.
    let text = str::from_utf8(bytes).ok()?;
    Some(text.replace(['\n', '\r'], " "))
}

/// Bytes as they are, printable ones only; dots for the others.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if matches!(byte, 0x20..=0x7E) { char::from(*byte) } else { '.' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_commands_to_terminals_do_not() {
        assert_eq!(escaped(b"credit 7 \"ok\""), "credit 7 \"ok\"");
        assert_eq!(escaped("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(escaped(b"a\nb\\\x1b[2J\x00"), "a\\nb\\\\\\u{1b}[2J\\0");
        assert_eq!(escaped(b"\xff\xc3("), "\\xff\\xc3(");
        assert_eq!(escaped("\u{202e}x".as_bytes()), "\\u{202e}x");
    }

    #[test]
    fn long_payloads_are_cut_to_the_columns_there_are() {
        assert_eq!(shortened(b"12345", 5), "12345");
        assert_eq!(shortened(b"123456", 5), "12...");
        assert_eq!(shortened(&[b'x'; 1 << 20], 10), "xxxxxxx...");
        let wide = "\u{4e2d}".repeat(100);
        assert!(console::measure_text_width(&shortened(wide.as_bytes(), 9)) <= 9);
    }

    #[test]
    fn json_is_checked_and_put_on_one_line() {
        assert_eq!(json(b"{\"b\": 1.00,\n \"a\": [] }").unwrap(), "{\"b\": 1.00,  \"a\": [] }");
        for bad in [&b"{"[..], b"", b"1 2", b"\"a\nb\"", b"\"\xff\""] {
            assert_eq!(json(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_have_two_digits() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_eq!(spaced(&[0, 255]), "00 ff");
        assert_eq!(printable(b"a\x00~\x7f"), "a.~.");
    }
}
