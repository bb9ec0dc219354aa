//! Numbers of the operations: what they take and give is in `guest/web/src/ops.ts`. They are
//! part of the recording format and never change their meaning.

// What only the host of an instance can perform: it knows the time, its requests and the
// network.

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
pub const HEED_CLIENT: u32 = 19;

pub const FETCH: u32 = 30;
pub const FETCH_WRITE: u32 = 31;
pub const FETCH_END: u32 = 32;

pub const CACHE_FIND: u32 = 33;
pub const CACHE_PUT: u32 = 34;
pub const CACHE_DELETE: u32 = 35;

pub const RESPOND_AND_END: u32 = 100;
pub const BODY_READ_ALL: u32 = 101;
pub const BODY_TAKE: u32 = 102;

// What only computes, performed by `ops::perform`; those of streams by `ops::Streams`.

pub const DECODE: u32 = 40;
pub const DECODER_NEW: u32 = 41;
pub const DECODER_WRITE: u32 = 42;
pub const BASE64_ENCODE: u32 = 43;
pub const BASE64_DECODE: u32 = 44;

pub const COMPRESSION_NEW: u32 = 50;
pub const COMPRESSION_WRITE: u32 = 51;

pub const URL_PARSE: u32 = 110;
pub const URL_SET: u32 = 111;

pub const DIGEST: u32 = 120;
pub const HMAC_SIGN: u32 = 121;
pub const HMAC_VERIFY: u32 = 122;
pub const AES_CBC_ENCRYPT: u32 = 123;
pub const AES_CBC_DECRYPT: u32 = 124;
pub const AES_GCM_ENCRYPT: u32 = 125;
pub const AES_GCM_DECRYPT: u32 = 126;
pub const HKDF: u32 = 127;
pub const PBKDF2: u32 = 128;
pub const RSA_GENERATE: u32 = 130;
pub const RSA_CHECK: u32 = 131;
pub const RSA_SIGN: u32 = 132;
pub const RSA_VERIFY: u32 = 133;
pub const EC_GENERATE: u32 = 140;
pub const EC_PUBLIC: u32 = 141;
pub const EC_POINT: u32 = 142;
pub const ECDSA_SIGN: u32 = 143;
pub const ECDSA_VERIFY: u32 = 144;
pub const ED25519_GENERATE: u32 = 145;
pub const ED25519_PUBLIC: u32 = 146;
pub const ED25519_SIGN: u32 = 147;
pub const ED25519_VERIFY: u32 = 148;
