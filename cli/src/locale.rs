//! The encoding of the user's terminal.

use std::env;
use std::sync::LazyLock;

/// Whether the locale's encoding is UTF-8. The first variable of `locale(7)` that is set decides.
pub(crate) fn is_utf8() -> bool {
    static IS_UTF8: LazyLock<bool> = LazyLock::new(|| {
        let variables = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
        let mut set = variables
            .filter_map(env::var_os)
            .filter(|value| !value.is_empty());
        set.next()
            .is_some_and(|locale| names_utf8(&locale.to_string_lossy()))
    });
    *IS_UTF8
}

fn names_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_part_of_the_name_of_a_locale() {
        for utf8 in ["C.UTF-8", "en_GB.utf8", "de_DE.UTF-8@euro"] {
            assert!(names_utf8(utf8), "{utf8}");
        }
        for other in ["C", "POSIX", "de_DE", "de_DE.ISO-8859-1"] {
            assert!(!names_utf8(other), "{other}");
        }
    }
}
