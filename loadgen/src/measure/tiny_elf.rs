//! A static program of about 200 bytes without libc, as an ELF file in memory.
//!
//! Such a program costs the kernel little more than the `execve` itself. A program that starts
//! libc maps and relocates for longer than a watcher works on its exit.

/// The address at which the file is mapped, whole.
const BASE: u64 = 0x40_0000;
/// The largest page of the supported architectures (`elf(5)`: `p_align`).
const ALIGN: u64 = 0x1_0000;
const HEADER: u16 = 64;
const SEGMENT: u16 = 56;
const SEGMENTS: u16 = 2;
const CODE: u64 = HEADER as u64 + (SEGMENT * SEGMENTS) as u64;

/// The machine's number in ELF, and its instructions; `None` on other architectures.
struct Machine {
    number: u16,
    /// `exit_group(argv[1][0])`
    exit: &'static [u8],
    /// `write(1, BASE, length)`
    write: fn(length: u16) -> Vec<u8>,
}

fn machine() -> Option<Machine> {
    if cfg!(target_arch = "x86_64") && cfg!(target_pointer_width = "64") {
        Some(Machine {
            number: 62,
            exit: &[
                0x48, 0x8b, 0x74, 0x24, 0x10, // mov rsi, [rsp + 16]
                0x0f, 0xb6, 0x3e, // movzx edi, byte [rsi]
                0xb8, 231, 0, 0, 0, // mov eax, SYS_exit_group
                0x0f, 0x05, // syscall
            ],
            write: |length| {
                let [low, high] = length.to_le_bytes();
                vec![
                    0xbf, 1, 0, 0, 0, // mov edi, 1
                    0xbe, 0, 0, 0x40, 0, // mov esi, BASE
                    0xba, low, high, 0, 0, // mov edx, length
                    0xb8, 1, 0, 0, 0, // mov eax, SYS_write
                    0x0f, 0x05, // syscall
                ]
            },
        })
    } else if cfg!(target_arch = "aarch64") && cfg!(target_endian = "little") {
        Some(Machine {
            number: 183,
            exit: &[
                0xe1, 0x0b, 0x40, 0xf9, // ldr x1, [sp, #16]
                0x20, 0x00, 0x40, 0x39, // ldrb w0, [x1]
                0xc8, 0x0b, 0x80, 0xd2, // mov x8, #SYS_exit_group
                0x01, 0x00, 0x00, 0xd4, // svc #0
            ],
            write: |length| {
                let length = 0xd280_0002 | (u32::from(length) << 5); // mov x2, #length
                let code = [
                    0xd280_0020, // mov x0, #1
                    0xd2a0_0801, // mov x1, #0x40, lsl #16
                    length,
                    0xd280_0808, // mov x8, #SYS_write
                    0xd400_0001, // svc #0
                ];
                code.iter()
                    .flat_map(|word: &u32| word.to_le_bytes())
                    .collect()
            },
        })
    } else {
        None
    }
}

/// A program that exits with the first byte of its first argument; `None` on architectures whose
/// instructions are not known here.
pub(super) fn that_exits() -> Option<Vec<u8>> {
    let machine = machine()?;
    Some(file(&machine, machine.exit, 0))
}

/// The same, but it first writes its own file, of `length` bytes, to standard output.
pub(super) fn that_writes_itself(length: usize) -> Option<Vec<u8>> {
    let machine = machine()?;
    let code = [
        (machine.write)(u16::try_from(length).ok()?),
        machine.exit.to_vec(),
    ]
    .concat();
    Some(file(&machine, &code, length))
}

/// An ELF file of at least `length` bytes with one segment, which is the whole file.
fn file(machine: &Machine, code: &[u8], length: usize) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec(); // 64 bits, little-endian, version 1
    file.resize(16, 0);
    let length = length.max(CODE as usize + code.len());
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    halves(&mut file, &[2, machine.number]); // ET_EXEC
    words(&mut file, &[1]);
    longs(&mut file, &[BASE + CODE, HEADER.into(), 0]); // entry, segments, sections
    words(&mut file, &[0]);
    halves(&mut file, &[HEADER, SEGMENT, SEGMENTS, 64, 0, 0]);
    // PT_LOAD, readable and executable: the whole file.
    words(&mut file, &[1, 4 | 1]);
    let length_u64 = length as u64;
    longs(&mut file, &[0, BASE, BASE, length_u64, length_u64, ALIGN]);
    // PT_GNU_STACK: a stack that is not executable.
    words(&mut file, &[0x6474_e551, 4 | 2]);
    longs(&mut file, &[0, 0, 0, 0, 0, 16]);
    file.extend(code);
    // The rest of a program that writes itself is a pattern that its reader can check.
    let pattern = (file.len()..length).map(|at| at as u8);
    file.extend(pattern);
    file
}
