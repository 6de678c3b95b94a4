// SPDX-License-Identifier: GPL-2.0

//! Texts of initiators in the list of sessions, which is JSON: RFC 8259, 7.

use core::fmt::{self, Write};

/// A text with its quotation marks. Whatever it is, it stays one line.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // Others than those of the RFC end a line for some readers.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn what_is_special() {
        for (text, want) in [
            ("", r#""""#),
            (
                "iqn.2003-01.org.example:x",
                r#""iqn.2003-01.org.example:x""#,
            ),
            ("a \"b\" \\c/", r#""a \"b\" \\c/""#),
            ("a\nb\u{0}\u{7f}\u{85}", r#""a\u000ab\u0000\u007f\u0085""#),
            ("ä\u{2028}\u{1f600}", "\"ä\\u2028\u{1f600}\""),
        ] {
            assert_eq!(Quoted(text).to_string(), want);
        }
    }
}
