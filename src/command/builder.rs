//! The command: a program, its arguments, environment and standard streams.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use super::attributes::Attributes;
use super::c_strings::CStrings;
use super::environment::{Environment, EnvironmentChanges};
use super::stdio::{Stdio, Stream};

/// A program to start with [`Watcher::spawn`](crate::Watcher::spawn), and the attributes of its
/// process.
///
/// It is used like [`std::process::Command`], which [`Watcher::spawn`](crate::Watcher::spawn) takes
/// too. It also sets what there needs a `pre_exec` closure, and with that a `fork`: session,
/// limits, user, scheduling, signals, descriptors. A fork copies the page tables of this process,
/// which takes the longer the more memory it has. The child of this command shares the memory of
/// this process until it has executed its program, and nothing is copied. The error
/// names the failed step, such as `cannot change to the directory "/x"`.
///
/// A command can be cloned, and started any number of times.
///
/// ```
/// use exitring::{Command, Resource, Stdio, Watcher};
///
/// let watcher = Watcher::new()?;
/// let mut command = Command::new("sh");
/// command
///     .args(["-c", "ulimit -n; pwd"])
///     .current_dir("/")
///     .limit(Resource::OpenFiles, Some(64), Some(64))
///     .nice(10)
///     .session()
///     .stdout(Stdio::piped());
/// let output = watcher.spawn(&mut command)?.wait_with_output()?;
/// assert_eq!(output.stdout, b"64\n/\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Compared with the standard library's `Command`
///
/// - The program is searched for in the `PATH` that the child gets, in the child, after the change
///   of directory and user. A relative path is relative to the new working directory. The path that
///   was found is tried first for one second.
/// - The mask of blocked signals is inherited, and `SIGPIPE` is set to its default, as there.
/// - Descriptors without close-on-exec are inherited, as there.
/// - A script without an interpreter in its first line is refused
///   ([`SpawnError::NotExecutable`](crate::SpawnError::NotExecutable)), as there without `uid`,
///   `gid`, `groups`, and changes of `PATH`.
/// - A variable whose name is empty or contains `=` is refused. Entries of this process's
///   environment without `=` are not passed.
/// - Emulators that replace `vfork` by `fork` (qemu's user mode, valgrind) hide why a start failed:
///   the child then ends with code 127.
/// - If the file is open for writing somewhere (`ETXTBSY`), as when another thread has just written
///   it, the start is retried for up to 130 ms.
#[derive(Clone)]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) arguments: CStrings,
    pub(crate) environment: EnvironmentChanges,
    /// Standard input, output, and error.
    pub(crate) streams: [Stdio; 3],
    pub(crate) attributes: Attributes,
}

impl Command {
    /// Creates a command for a program: a path, or a name to search for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut arguments = CStrings::default();
        arguments.push(program);
        Self {
            program: program.into(),
            arguments,
            environment: EnvironmentChanges::default(),
            streams: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            attributes: Attributes::default(),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) -> &mut Self {
        for argument in arguments {
            self.arg(argument);
        }
        self
    }

    /// Sets the name that the program finds as its argument 0, which is otherwise the program as
    /// the command names it.
    pub fn arg0(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.replace_first(name.as_ref());
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.environment.set(name.as_ref(), value.as_ref());
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        for (name, value) in variables {
            self.env(name, value);
        }
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.environment.remove(name.as_ref());
        self
    }

    /// Removes all variables from the child's environment, and forgets those that were set.
    pub fn env_clear(&mut self) -> &mut Self {
        self.environment(&Environment::empty())
    }

    /// Replaces the child's environment by a copy that was made before, and forgets variables that
    /// were set or removed. Later changes apply to the copy.
    pub fn environment(&mut self, environment: &Environment) -> &mut Self {
        self.environment.replace_base(environment.clone());
        self
    }

    /// Sets standard input. It is inherited by default.
    pub fn stdin(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.set_stream(0, stream.into())
    }

    /// Sets standard output. It is inherited by default.
    pub fn stdout(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.set_stream(1, stream.into())
    }

    /// Sets standard error. It is inherited by default.
    pub fn stderr(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.set_stream(2, stream.into())
    }

    fn set_stream(&mut self, number: usize, stream: Stdio) -> &mut Self {
        self.streams[number] = stream;
        self
    }

    /// The program, as given to [`new`](Self::new).
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// The arguments, without argument 0.
    pub fn get_args(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.arguments.iter().skip(1)
    }

    /// The variables that were set (`Some`) or removed (`None`), by name.
    pub fn get_envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.environment.iter()
    }

    /// The working directory, if one was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.attributes.current_dir()
    }

    /// Checks the parts that the kernel takes as strings.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.arguments.first_with_nul() {
            Some(0) => return Err("the program's name contains a NUL".into()),
            Some(index) => return Err(format!("argument {index} contains a NUL")),
            None => {}
        }
        if self.program.as_encoded_bytes().contains(&0) {
            return Err("the program's name contains a NUL".into());
        }
        if let Some(name) = self.environment.invalid_name() {
            return Err(format!(
                "{name:?} is no name of an environment variable: it is empty, or has a = or a NUL"
            ));
        }
        self.attributes.check()
    }

    /// Whether the program is a name to search for in `PATH`.
    pub(crate) fn needs_search(&self) -> bool {
        !self.program.as_encoded_bytes().contains(&b'/')
    }

    pub(crate) fn is_piped(&self, number: usize) -> bool {
        matches!(self.streams[number].0, Stream::Piped)
    }
}

impl fmt::Debug for Command {
    /// The program and its arguments, quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.program)?;
        self.get_args()
            .try_for_each(|argument| write!(f, " {argument:?}"))
    }
}
