//! Memory that the measuring process has, and that a fork therefore copies the page tables of.

use std::error::Error;
use std::ffi::c_void;
use std::{fmt, fs, io, ptr};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::types::byte_size::ByteSize;

/// What is left to the rest of the machine, and to the page tables.
const RESERVE: u64 = 256 << 20;

/// Anonymous memory, every page of which was written to. It is unmapped when this is dropped.
pub(crate) struct Resident {
    address: *mut c_void,
    length: usize,
}

/// The memory cannot be had.
#[derive(Debug)]
pub(crate) enum ResidentError {
    /// The machine has less memory to spare (`MemAvailable`, `proc_meminfo(5)`).
    NotEnough {
        wanted: ByteSize,
        available: ByteSize,
    },
    /// What the machine has to spare is unknown.
    Unknown(io::Error),
    /// The kernel refused the memory.
    Refused { wanted: ByteSize, source: io::Error },
}

impl Resident {
    /// Allocates the memory in small pages, and writes to each, so that its page tables are as
    /// large as those of a heap that grew step by step. Checks first that the machine has it.
    pub(crate) fn allocate(size: ByteSize) -> Result<Self, ResidentError> {
        check(size)?;
        let refused = |error: rustix::io::Errno| ResidentError::Refused {
            wanted: size,
            source: error.into(),
        };
        let length =
            usize::try_from(size.bytes()).map_err(|_| refused(rustix::io::Errno::NOMEM))?;
        let (access, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses an address at which nothing is mapped.
        let address = unsafe { mmap_anonymous(ptr::null_mut(), length, access, private) };
        let resident = Self {
            address: address.map_err(refused)?,
            length,
        };
        // A kernel without huge pages refuses the advice (EINVAL), and needs none.
        let _ = resident.advise(Advice::LinuxNoHugepage);
        let first: *mut u8 = resident.address.cast();
        for offset in (0..length).step_by(rustix::param::page_size()) {
            // SAFETY: the offset is inside of the mapping.
            unsafe { first.add(offset).write_volatile(1) };
        }
        Ok(resident)
    }

    /// Sets whether forked children get this memory. Without it a fork copies no page tables of it.
    pub(crate) fn set_inherited(&self, inherited: bool) -> io::Result<()> {
        self.advise(match inherited {
            true => Advice::LinuxDoFork,
            false => Advice::LinuxDontFork,
        })
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is the mapping, and these advices do not change its content.
        Ok(unsafe { madvise(self.address, self.length, advice) }?)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: nothing else refers to the mapping.
        let _ = unsafe { munmap(self.address, self.length) };
    }
}

/// Checks that the machine has so much memory to spare.
pub(crate) fn check(size: ByteSize) -> Result<(), ResidentError> {
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(ResidentError::Unknown)?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "there is no MemAvailable");
    let available = available(&meminfo).ok_or_else(missing);
    check_against(size, available.map_err(ResidentError::Unknown)?)
}

fn check_against(wanted: ByteSize, available: ByteSize) -> Result<(), ResidentError> {
    match wanted.bytes().saturating_add(RESERVE) <= available.bytes() {
        true => Ok(()),
        false => Err(ResidentError::NotEnough { wanted, available }),
    }
}

fn available(meminfo: &str) -> Option<ByteSize> {
    let mut lines = meminfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(ByteSize::from_bytes(kib * 1024))
}

impl fmt::Display for ResidentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnough { wanted, available } => write!(
                f,
                "--resident {wanted} is too much for this machine: {available} are available, of \
                 which {} are kept in reserve; choose less, or end other programs",
                ByteSize::from_bytes(RESERVE)
            ),
            Self::Unknown(_) => f.write_str(
                "--resident: the available memory cannot be read from /proc/meminfo; mount /proc",
            ),
            Self::Refused { wanted, .. } => write!(
                f,
                "--resident {wanted}: the kernel refused the memory; see ulimit -v and the sysctl \
                 vm.overcommit_memory"
            ),
        }
    }
}

impl Error for ResidentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotEnough { .. } => None,
            Self::Unknown(source) | Self::Refused { source, .. } => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::process::anonymous_bytes;

    #[test]
    fn every_page_is_resident_until_the_drop() {
        // Other tests of this process allocate some memory at the same time, but not as much.
        let size = ByteSize::from_bytes(64 << 20);
        let before = anonymous_bytes(None).expect("it is known");
        let resident = Resident::allocate(size).expect("the machine has 64 MiB");
        let during = anonymous_bytes(None).expect("it is known");
        assert!(during >= before + (48 << 20), "{before} {during}");
        for inherited in [false, true] {
            resident.set_inherited(inherited).expect("it is advised");
        }
        drop(resident);
        let after = anonymous_bytes(None).expect("it is known");
        assert!(after + (48 << 20) <= during, "{during} {after}");
    }

    #[test]
    fn the_reserve_is_not_available() {
        let size = ByteSize::from_bytes(1 << 20);
        let enough = ByteSize::from_bytes((1 << 20) + RESERVE);
        check_against(size, enough).expect("exactly enough");
        let less = ByteSize::from_bytes(enough.bytes() - 1);
        let error = check_against(size, less).expect_err("one byte is missing");
        assert!(matches!(error, ResidentError::NotEnough { wanted, .. } if wanted == size));
        assert!(error.to_string().contains("--resident 1 MiB is too much"));
        let all = ByteSize::from_bytes(u64::MAX);
        check_against(all, enough).expect_err("no overflow");
    }

    #[test]
    fn the_available_memory_is_read_from_meminfo() {
        let text = "MemTotal:  100 kB\nMemAvailable:     77 kB\n";
        assert_eq!(available(text), Some(ByteSize::from_bytes(77 << 10)));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: many kB\n"), None);
    }
}
