//! Strings with a terminating NUL, as `execve(2)` takes them, in one buffer.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

#[derive(Clone, Default)]
pub(crate) struct CStrings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    /// The first string that contained a NUL itself, which cuts it short.
    first_with_nul: Option<usize>,
}

impl CStrings {
    pub(crate) fn with_capacity(strings: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            starts: Vec::with_capacity(strings),
            first_with_nul: None,
        }
    }

    pub(crate) fn push(&mut self, string: &OsStr) {
        self.push_parts(&[string.as_bytes()]);
    }

    /// Adds the concatenation of the parts.
    pub(crate) fn push_parts(&mut self, parts: &[&[u8]]) {
        if parts.iter().any(|part| part.contains(&0)) {
            self.first_with_nul.get_or_insert(self.starts.len());
        }
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
    }

    /// Replaces the first string.
    pub(crate) fn replace_first(&mut self, string: &OsStr) {
        let mut replaced = Self::default();
        replaced.push(string);
        for other in self.iter().skip(1) {
            replaced.push(other);
        }
        *self = replaced;
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The size of all strings with their NULs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn first_with_nul(&self) -> Option<usize> {
        self.first_with_nul
    }

    pub(crate) fn get(&self, index: usize) -> Option<&OsStr> {
        let start = *self.starts.get(index)?;
        let next = self.starts.get(index + 1).copied();
        let end = next.unwrap_or(self.bytes.len()) - 1;
        Some(OsStr::from_bytes(&self.bytes[start..end]))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// The string up to its first NUL.
    pub(crate) fn c_str(&self, index: usize) -> Option<&CStr> {
        let start = *self.starts.get(index)?;
        CStr::from_bytes_until_nul(&self.bytes[start..]).ok()
    }

    /// Adds the addresses of the strings for which `keep` holds. They are valid as long as the
    /// strings are neither changed nor dropped.
    pub(crate) fn addresses(&self, keep: impl Fn(&OsStr) -> bool, into: &mut Vec<*const c_char>) {
        for (string, start) in self.iter().zip(&self.starts) {
            if keep(string) {
                into.push(self.bytes[*start..].as_ptr().cast());
            }
        }
    }

    /// The addresses of all strings, and a null pointer at the end.
    pub(crate) fn null_terminated(&self) -> Vec<*const c_char> {
        let mut addresses = Vec::with_capacity(self.len() + 1);
        self.addresses(|_| true, &mut addresses);
        addresses.push(ptr::null());
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn strings_are_kept_and_terminated() {
        let mut strings = CStrings::default();
        for string in ["", "a", "", "bc"] {
            strings.push(string.as_ref());
        }
        let kept: Vec<_> = strings.iter().map(OsString::from).collect();
        assert_eq!(kept, ["", "a", "", "bc"]);
        assert_eq!(strings.c_str(3), Some(c"bc"));
        assert_eq!((strings.c_str(4), strings.get(4)), (None, None));
        assert_eq!(strings.bytes(), 7);
        let addresses = strings.null_terminated();
        assert_eq!(addresses.len(), 5);
        assert!(addresses[4].is_null() && !addresses[3].is_null());
    }

    #[test]
    fn the_first_nul_is_known() {
        let mut strings = CStrings::default();
        strings.push("a".as_ref());
        assert_eq!(strings.first_with_nul(), None);
        strings.push("b\0c".as_ref());
        strings.push("d\0".as_ref());
        assert_eq!(strings.first_with_nul(), Some(1));
    }

    #[test]
    fn the_first_string_is_replaced() {
        let mut strings = CStrings::default();
        for string in ["program", "argument"] {
            strings.push(string.as_ref());
        }
        strings.replace_first("-sh".as_ref());
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["-sh", "argument"]);
    }
}
