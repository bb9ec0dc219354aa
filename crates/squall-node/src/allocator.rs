//! The allocator: mimalloc, and what a process holds of memory beyond what it uses. That it has
//! no huge pages is a feature that is chosen in Cargo.toml: with them every buffer of an idle
//! connection is resident whole, touched or not, and no request is faster for it.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_long;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_option_set, mi_option_t, mi_realloc,
    mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// A request allocates some hundred small pieces that die young, on the core that made
/// them; glibc's allocator spends noticeably more on each. So does mimalloc when it is asked
/// for an alignment that every piece has.
pub struct Allocator;

/// `MI_MAX_ALIGN_SIZE` of mimalloc/types.h: pieces of this size and more are aligned to it.
const USUAL_ALIGNMENT: usize = 16;

/// Whether a piece of that layout is aligned well enough without asking.
fn is_usual(align: usize, size: usize) -> bool {
    align <= size_of::<usize>() || (align <= USUAL_ALIGNMENT && size >= USUAL_ALIGNMENT)
}

// SAFETY: mimalloc's functions do what the trait asks for, and give null when memory is out.
// Every piece comes from it and goes back to it, however it was asked for.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size may be asked for; an alignment of a layout is a power of two.
        unsafe {
            if is_usual(align, size) {
                mi_malloc(size).cast()
            } else {
                mi_malloc_aligned(size, align).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe {
            if is_usual(align, size) {
                mi_zalloc(size).cast()
            } else {
                mi_zalloc_aligned(size, align).cast()
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, _: Layout) {
        // SAFETY: the caller got it from here and uses it no more.
        unsafe { mi_free(piece.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc` and `alloc`.
        unsafe {
            if is_usual(layout.align(), size) {
                mi_realloc(piece.cast(), size).cast()
            } else {
                mi_realloc_aligned(piece.cast(), size, layout.align()).cast()
            }
        }
    }
}

/// `mi_option_purge_delay` of mimalloc.h, for which the crate has no name.
const PURGE_DELAY: mi_option_t = 15;
/// Ten times that for what the threads have given back. A buffer of log or usage records is
/// filled on one thread and freed on another many times a second, and faults in anew when its
/// pages went to the system in between: a few in a hundred of a busy node's CPU time. This
/// long costs it 2 MiB; the allocator's own second would be 20 to 30.
const PURGE_DELAY_MS: c_long = 50;

/// Gives memory back to the system soon.
pub(crate) fn hold_little() {
    // SAFETY: an option is an atomic number, and may be set at any time.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_aligned_and_keep_what_they_hold(
            size in 1usize..5_000,
            shift in 0u32..8,
            grown in 1usize..5_000,
            zeroed: bool,
        ) {
            let layout = Layout::from_size_align(size, 1 << shift).unwrap();
            // SAFETY: a layout that is not empty; the piece is written within its size, and
            // given back once with the layout that it has then.
            unsafe {
                let piece =
                    if zeroed { Allocator.alloc_zeroed(layout) } else { Allocator.alloc(layout) };
                prop_assert!(!piece.is_null());
                prop_assert_eq!(piece as usize % layout.align(), 0);
                if zeroed {
                    let bytes = std::slice::from_raw_parts(piece, size);
                    prop_assert!(bytes.iter().all(|byte| *byte == 0));
                }
                piece.write_bytes(7, size);
                let piece = Allocator.realloc(piece, layout, grown);
                prop_assert_eq!(piece as usize % layout.align(), 0);
                let kept = std::slice::from_raw_parts(piece, size.min(grown));
                prop_assert!(kept.iter().all(|byte| *byte == 7));
                Allocator.dealloc(piece, Layout::from_size_align(grown, 1 << shift).unwrap());
            }
        }
    }
}
