//! Whether this processor has AMX and this process may use it.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// A token that proves that this process may use AMX, and that the processor has the extensions of AVX-512 that the conversions around it
/// need: BW, DQ, VL, VBMI and BF16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    /// Asks the processor, and the operating system for the permission, once per process.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = *FOUND.get_or_init(|| has_instructions() && saves_tiles() && is_permitted());
        found.then_some(Self(()))
    }
}

/// The instructions for bfloat16, for tiles and for 8-bit integers: bits of EDX of CPUID's leaf 7.
const INSTRUCTIONS: u32 = 1 << 22 | 1 << 24 | 1 << 25;

fn has_instructions() -> bool {
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma");
    vectors && __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & INSTRUCTIONS == INSTRUCTIONS
}

/// Whether the operating system saves the configuration and the contents of the tiles when it switches threads: bits 17 and 18 of XCR0.
fn saves_tiles() -> bool {
    const TILES: u32 = 1 << 17 | 1 << 18;
    let enabled: u32;
    // SAFETY: the processor has AVX-512, so that it has XGETBV, which reads a register; the upper half of the result is in EDX.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    enabled & TILES == TILES
}

/// Asks Linux for the permission, which holds for all threads of the process. Tiles make the memory that a signal needs larger, so Linux
/// refuses it where a thread has provided too little.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call takes two numbers and accesses no memory of this process. It overwrites RCX and R11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems are asked in other ways, which nobody has tried.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn is_permitted() -> bool {
    false
}
