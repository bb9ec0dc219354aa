//! Numbers of the operations that the host itself performs; what they take and give is in
//! `guest/web/src/ops.ts`. They are part of the recording format and never change their
//! meaning.

pub const WALL_CLOCK: u32 = 1;
pub const MONOTONIC_CLOCK: u32 = 2;
pub const RANDOM_BYTES: u32 = 3;
pub const SLEEP: u32 = 4;

pub const RESPOND: u32 = 10;
pub const RESPONSE_WRITE: u32 = 11;
pub const RESPONSE_END: u32 = 12;
pub const FAIL: u32 = 13;
pub const END: u32 = 14;
pub const BODY_READ: u32 = 15;
pub const BODY_CANCEL: u32 = 16;
pub const ENV: u32 = 17;
pub const LOG: u32 = 18;

pub const FETCH: u32 = 30;
pub const FETCH_WRITE: u32 = 31;
pub const FETCH_END: u32 = 32;

pub const RESPOND_AND_END: u32 = 100;
pub const BODY_READ_ALL: u32 = 101;
