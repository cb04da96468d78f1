//! A wall clock that goes backwards.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A library that sets the wall clock back by an hour at each reading. `None` if there is no C
/// compiler, or the binary is static and has no use for it.
pub(crate) fn library() -> Option<PathBuf> {
    static LIBRARY: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        if cfg!(target_env = "musl") {
            eprintln!("not run: a static program ignores LD_PRELOAD");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (source, library) = (dir.path().join("clock.c"), dir.path().join("clock.so"));
        let text = "#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
            int clock_gettime(clockid_t clock, struct timespec *time) {\n\
            static long shift;\n\
            int result = syscall(SYS_clock_gettime, clock, time);\n\
            if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec -= __sync_add_and_fetch(&shift, 3600);\n\
            return result;\n}\n";
        std::fs::write(&source, text).expect("writes");
        let mut compiler = Command::new("cc");
        let compiler = compiler.args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-o"]);
        match compiler.arg(&library).arg(&source).status() {
            Ok(status) => assert!(status.success(), "it compiles"),
            Err(_) => {
                eprintln!("not run: there is no C compiler");
                return None;
            }
        }
        Some((dir, library))
    });
    library.as_ref().map(|(_, library)| library.clone())
}
