//! Runs a command without permission for some system calls, as in a strict container:
//! `deny io_uring_setup=EPERM pidfd_open=ENOSYS -- COMMAND ARGS`.

#[path = "../tests/common/deny.rs"]
mod deny;

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    for word in words.by_ref().take_while(|word| word != "--") {
        let (call, errno) = word.split_once('=').ok_or("CALL=ERRNO")?;
        let call = match call {
            "io_uring_setup" => libc::SYS_io_uring_setup,
            "io_uring_enter" => libc::SYS_io_uring_enter,
            "io_uring_register" => libc::SYS_io_uring_register,
            "pidfd_open" => libc::SYS_pidfd_open,
            "clone3" => libc::SYS_clone3,
            _ => return Err(format!("{call} is not a call that this example denies").into()),
        };
        let errno = match errno {
            "EPERM" => libc::EPERM,
            "ENOSYS" => libc::ENOSYS,
            _ => return Err(format!("{errno} is neither EPERM nor ENOSYS").into()),
        };
        deny::deny(call, errno)?;
    }
    let command = words.next().ok_or("deny CALL=ERRNO... -- COMMAND")?;
    Err(Command::new(command).args(words).exec().into())
}
