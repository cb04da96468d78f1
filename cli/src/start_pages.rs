//! The pages of the program that only its start needs.

use std::ffi::{c_int, c_void};

/// Unmaps the pages of the program's code and constants that are mapped so far.
///
/// Parsing the command line touches code all over the program, and the kernel maps the neighbours of
/// each page with it: more than half of the program, and several times what a run uses. The pages
/// stay in the page cache, from which those that are needed again are mapped again.
pub(crate) fn release() {
    // SAFETY: the callback matches the type that C expects, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(release_program), std::ptr::null_mut()) };
}

/// Called for the program first, and then for its libraries. A result other than 0 ends the calls.
unsafe extern "C" fn release_program(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the C library passes a valid object, whose headers stay mapped with it.
    let (base, headers) = unsafe {
        let object = &*object;
        let count = usize::from(object.dlpi_phnum);
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, count);
        (object.dlpi_addr as usize, headers)
    };
    let page = rustix::param::page_size();
    for header in headers {
        // Segments that are or were writable have values that the file does not have.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let first = base + header.p_vaddr as usize;
        let end = (first + header.p_filesz as usize).next_multiple_of(page);
        let start = first - first % page;
        // SAFETY: the pages are those of a private mapping of the program's file that was never
        // written to, so the next access finds the same content.
        unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
mod tests {
    /// How much of this program's file is mapped and resident without a private copy, in kB.
    fn resident() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("/proc is mounted");
        let program = std::env::current_exe().expect("a path");
        let program = program.to_str().expect("UTF-8");
        let mut total = 0;
        let mut counts = false;
        for line in maps.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [_, mode, _, _, _, path] => counts = path == program && !mode.contains('w'),
                ["Rss:", size, _] if counts => total += size.parse::<u64>().expect("a number"),
                _ => {}
            }
        }
        total
    }

    #[test]
    fn pages_of_the_program_are_released_and_come_back() {
        // A formatted text needs much code.
        let text = format!("{:?}", std::fs::metadata("/"));
        let before = resident();
        super::release();
        assert!(resident() < before, "of {before} kB nothing was released");
        assert_eq!(format!("{:?}", std::fs::metadata("/")), text);
    }
}
