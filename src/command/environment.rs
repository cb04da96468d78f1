//! The environment of a child: a base, and changes to it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString, c_char};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::Arc;

use super::c_strings::CStrings;

/// A snapshot of an environment, in the form in which the kernel takes it.
///
/// A command copies the environment of this process each time it is started, because other threads
/// may change it meanwhile. A program that starts thousands of processes copies it once, and passes
/// the copy to [`Command::environment`](super::Command::environment).
#[derive(Clone)]
pub struct Environment(Arc<CStrings>);

impl Environment {
    /// Copies the environment of this process, under the lock of [`std::env`](mod@std::env). Entries without `=`
    /// are left out.
    pub fn current() -> Self {
        let variables = env::vars_os();
        let count = variables.size_hint().0;
        let mut entries = CStrings::with_capacity(count, count * 64);
        for (name, value) in variables {
            entries.push_parts(&[name.as_bytes(), b"=", value.as_bytes()]);
        }
        Self(Arc::new(entries))
    }

    /// An environment without variables.
    pub fn empty() -> Self {
        Self(Arc::default())
    }
}

impl fmt::Debug for Environment {
    /// Values may be secrets, so only the number of variables is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// How the environment of a child differs from that of this process.
#[derive(Clone, Default)]
pub(crate) struct EnvironmentChanges {
    /// What the changes apply to. `None`: the environment of this process.
    base: Option<Environment>,
    /// `None` removes the variable.
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl EnvironmentChanges {
    pub(crate) fn set(&mut self, name: &OsStr, value: &OsStr) {
        self.changes.insert(name.into(), Some(value.into()));
    }

    pub(crate) fn remove(&mut self, name: &OsStr) {
        self.changes.insert(name.into(), None);
    }

    pub(crate) fn replace_base(&mut self, base: Environment) {
        self.changes.clear();
        self.base = Some(base);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        let changes = self.changes.iter();
        changes.map(|(name, value)| (name.as_ref(), value.as_deref()))
    }

    /// The first name to set that no variable can have.
    pub(crate) fn invalid_name(&self) -> Option<&OsStr> {
        let invalid = |name: &OsStr| {
            let bytes = name.as_bytes();
            bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0)
        };
        let set = self.iter().filter(|(_, value)| value.is_some());
        set.map(|(name, _)| name).find(|name| invalid(name))
    }

    pub(crate) fn block(&self) -> EnvironmentBlock {
        let base = self.base.clone().unwrap_or_else(Environment::current).0;
        let mut set = CStrings::default();
        for (name, value) in &self.changes {
            if let Some(value) = value {
                set.push_parts(&[name.as_bytes(), b"=", value.as_bytes()]);
            }
        }
        let mut addresses = Vec::with_capacity(base.len() + set.len() + 1);
        if self.changes.is_empty() {
            base.addresses(|_| true, &mut addresses);
        } else {
            let unchanged = |entry: &OsStr| !self.changes.contains_key(name_of(entry));
            base.addresses(unchanged, &mut addresses);
            set.addresses(|_| true, &mut addresses);
        }
        addresses.push(ptr::null());
        EnvironmentBlock {
            base,
            set,
            addresses,
        }
    }
}

/// The environment of a child as `execve(2)` takes it.
pub(crate) struct EnvironmentBlock {
    base: Arc<CStrings>,
    set: CStrings,
    /// Into the strings of both, with a null pointer at the end.
    addresses: Vec<*const c_char>,
}

impl EnvironmentBlock {
    pub(crate) fn addresses(&self) -> &[*const c_char] {
        &self.addresses
    }

    /// At most this many bytes of strings.
    pub(crate) fn bytes(&self) -> usize {
        self.base.bytes() + self.set.bytes()
    }

    /// A value with a NUL in it.
    pub(crate) fn variable_with_nul(&self) -> Option<&OsStr> {
        let entry = self.set.get(self.set.first_with_nul()?)?;
        Some(name_of(entry))
    }

    /// The string at an address of the block.
    #[cfg(test)]
    fn string(&self, address: *const c_char) -> std::borrow::Cow<'_, str> {
        let mut strings = self.base.iter().chain(self.set.iter());
        let found = strings.find(|string| string.as_bytes().as_ptr().cast() == address);
        found.expect("it is one of the strings").to_string_lossy()
    }

    pub(crate) fn longest(&self) -> usize {
        let strings = self.base.iter().chain(self.set.iter());
        strings.map(OsStr::len).max().unwrap_or(0)
    }
}

impl EnvironmentChanges {
    /// The `PATH` that the child gets.
    pub(crate) fn search_path(&self) -> Option<OsString> {
        let name = OsStr::new("PATH");
        match (self.changes.get(name), &self.base) {
            (Some(changed), _) => changed.clone(),
            (None, None) => env::var_os(name),
            (None, Some(Environment(base))) => {
                let value = |entry: &OsStr| {
                    let value = entry.as_bytes().strip_prefix(b"PATH=")?;
                    Some(OsStr::from_bytes(value).to_owned())
                };
                base.iter().find_map(value)
            }
        }
    }
}

/// The name in an entry `NAME=VALUE`. Like the standard library, it takes a `=` at the start for a
/// part of the name.
fn name_of(entry: &OsStr) -> &OsStr {
    let bytes = entry.as_bytes();
    let equals = bytes.iter().skip(1).position(|byte| *byte == b'=');
    OsStr::from_bytes(&bytes[..equals.map_or(bytes.len(), |index| index + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(changes: &EnvironmentChanges) -> Vec<String> {
        let block = changes.block();
        let (last, addresses) = block.addresses().split_last().expect("the null pointer");
        assert!(last.is_null());
        let strings = addresses.iter().map(|address| block.string(*address));
        strings.map(Into::into).collect()
    }

    fn base(entries: &[&str]) -> Environment {
        let mut strings = CStrings::default();
        for entry in entries {
            strings.push(entry.as_ref());
        }
        Environment(Arc::new(strings))
    }

    #[test]
    fn changes_replace_add_and_remove() {
        let mut changes = EnvironmentChanges::default();
        changes.replace_base(base(&["A=1", "B=2", "C=3", "=D=4"]));
        assert_eq!(entries(&changes), ["A=1", "B=2", "C=3", "=D=4"]);
        changes.set("B".as_ref(), "new".as_ref());
        changes.remove("A".as_ref());
        changes.set("E".as_ref(), "".as_ref());
        assert_eq!(entries(&changes), ["C=3", "=D=4", "B=new", "E="]);
        changes.replace_base(Environment::empty());
        assert!(entries(&changes).is_empty());
    }

    #[test]
    fn without_changes_the_environment_of_this_process_is_passed() {
        let passed = entries(&EnvironmentChanges::default());
        assert_eq!(passed.len(), env::vars_os().count());
        let path = env::var("PATH").expect("tests have a PATH");
        assert!(passed.contains(&format!("PATH={path}")), "{passed:?}");
    }

    #[test]
    fn the_search_path_is_that_of_the_child() {
        let mut changes = EnvironmentChanges::default();
        assert_eq!(changes.search_path(), env::var_os("PATH"));
        changes.replace_base(base(&["PATHS=no", "PATH=/base"]));
        assert_eq!(changes.search_path(), Some("/base".into()));
        changes.set("PATH".as_ref(), "/changed".as_ref());
        assert_eq!(changes.search_path(), Some("/changed".into()));
        changes.remove("PATH".as_ref());
        assert_eq!(changes.search_path(), None);
    }

    #[test]
    fn names_are_checked() {
        for (name, valid) in [("A", true), ("", false), ("A=B", false), ("A\0", false)] {
            let mut changes = EnvironmentChanges::default();
            changes.remove(name.as_ref());
            assert_eq!(changes.invalid_name(), None, "{name:?} is removed");
            changes.set(name.as_ref(), "".as_ref());
            assert_eq!(changes.invalid_name().is_none(), valid, "{name:?}");
        }
    }
}
