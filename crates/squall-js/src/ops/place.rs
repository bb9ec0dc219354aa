//! Where an operation may be performed. A core that serves requests must not be held for
//! long, and the guest, which chooses between a call and a start, is hostile.

use crate::op;

/// Bytes in all that the web layer works on in a call: `LONG` in `guest/web/src/crypto/algorithm.ts`.
const DATA_BYTES_MAX: usize = 65_536;
/// As much for compression: `LARGEST_AT_ONCE` in `guest/web/src/compression.ts`.
const COMPRESSION_BYTES_MAX: usize = 16_384;
/// What a message has around its bytes: tags, lengths, the names of algorithms.
const AROUND_BYTES: usize = 1_024;

/// What an operation costs.
enum Effort {
    /// Little whatever its arguments are, or in proportion to them and fast: texts, base64,
    /// URLs, and most keys.
    Small,
    /// In proportion to data.
    OfData,
    /// In proportion to data, and much for each byte.
    OfCompression,
    /// More than 100 µs for the least.
    Large,
}

fn effort(operation: u32) -> Effort {
    match operation {
        op::DIGEST
        | op::HMAC_SIGN
        | op::HMAC_VERIFY
        | op::AES_CBC_ENCRYPT
        | op::AES_CBC_DECRYPT
        | op::AES_GCM_ENCRYPT
        | op::AES_GCM_DECRYPT
        | op::ED25519_SIGN
        | op::ED25519_VERIFY => Effort::OfData,
        op::COMPRESSION_WRITE => Effort::OfCompression,
        op::PBKDF2
        | op::RSA_GENERATE
        | op::RSA_CHECK
        | op::RSA_SIGN
        | op::RSA_VERIFY
        | op::EC_GENERATE
        | op::ECDSA_SIGN
        | op::ECDSA_VERIFY => Effort::Large,
        _ => Effort::Small,
    }
}

/// Whether a call, which a request core waits for, may perform this. `message_len` is the
/// length in bytes of the arguments as a message.
///
/// While a function is deployed there is no core to hold up: its top-level code calls what is
/// `either` in `ops.ts` with data of any length.
pub fn may_be_called(operation: u32, message_len: usize) -> bool {
    match effort(operation) {
        Effort::Small => true,
        Effort::OfData => message_len <= DATA_BYTES_MAX + AROUND_BYTES,
        Effort::OfCompression => message_len <= COMPRESSION_BYTES_MAX + AROUND_BYTES,
        Effort::Large => false,
    }
}

/// Whether this operation, which was started, is for a thread that serves no requests.
pub fn is_for_another_thread(operation: u32, message_len: usize) -> bool {
    match effort(operation) {
        Effort::Small => false,
        Effort::OfData => message_len > DATA_BYTES_MAX,
        Effort::OfCompression => message_len > COMPRESSION_BYTES_MAX,
        Effort::Large => true,
    }
}
