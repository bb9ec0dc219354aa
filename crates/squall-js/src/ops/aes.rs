//! AES in the modes that WebCrypto has. GCM is put together from its parts (NIST SP
//! 800-38D), because the library's takes nonces of one length only.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{
    BlockCipher, BlockDecryptMut, BlockEncrypt, BlockEncryptMut, BlockSizeUser, InnerIvInit as _,
    KeyInit, KeyIvInit, StreamCipher as _, consts::U16,
};
use aes::{Aes128, Aes192, Aes256};
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;
use subtle::ConstantTimeEq as _;

use super::{Arguments, Refusal, operation_error, wrong};
use crate::Value;

const BLOCK: usize = 16;

/// `(key, iv, data)`
pub(super) fn cbc_encrypt(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (key, iv, data) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    fn run<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Refusal>
    where
        C: BlockEncryptMut + BlockCipher + KeyInit,
    {
        let cipher = cbc::Encryptor::<C>::new_from_slices(key, iv).map_err(|_| wrong())?;
        Ok(cipher.encrypt_padded_vec_mut::<Pkcs7>(data))
    }
    let encrypted = match key.len() {
        16 => run::<Aes128>(&key, &iv, &data),
        24 => run::<Aes192>(&key, &iv, &data),
        32 => run::<Aes256>(&key, &iv, &data),
        _ => Err(wrong()),
    };
    encrypted.map(Value::Bytes)
}

/// `(key, iv, data)`
pub(super) fn cbc_decrypt(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (key, iv, data) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    fn run<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Refusal>
    where
        C: BlockDecryptMut + BlockCipher + KeyInit,
    {
        let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| wrong())?;
        cipher.decrypt_padded_vec_mut::<Pkcs7>(data).map_err(|_| not_decrypted())
    }
    let decrypted = match key.len() {
        16 => run::<Aes128>(&key, &iv, &data),
        24 => run::<Aes192>(&key, &iv, &data),
        32 => run::<Aes256>(&key, &iv, &data),
        _ => Err(wrong()),
    };
    decrypted.map(Value::Bytes)
}

fn not_decrypted() -> Refusal {
    operation_error("the data can not be decrypted")
}

/// GCM with one key and nonce.
struct Gcm<C: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16>> {
    stream: ctr::Ctr32BE<C>,
    hash: GHash,
    /// The keystream block that the tag is hidden with.
    mask: [u8; BLOCK],
}

impl<C: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16> + KeyInit> Gcm<C> {
    fn new(key: &[u8], nonce: &[u8]) -> Result<Self, Refusal> {
        let cipher = C::new_from_slice(key).map_err(|_| wrong())?;
        let mut hash_key = ghash::Key::default();
        cipher.encrypt_block(&mut hash_key);
        let hash = GHash::new(&hash_key);
        let mut counter = [0; BLOCK];
        if nonce.len() == 12 {
            counter[..12].copy_from_slice(nonce);
            counter[15] = 1;
        } else {
            let mut of_nonce = hash.clone();
            of_nonce.update_padded(nonce);
            let mut lengths = ghash::Block::default();
            lengths[8..].copy_from_slice(&(nonce.len() as u64 * 8).to_be_bytes());
            of_nonce.update(&[lengths]);
            counter.copy_from_slice(&of_nonce.finalize());
        }
        let core = ctr::CtrCore::inner_iv_init(cipher, &counter.into());
        let mut stream = ctr::Ctr32BE::from_core(core);
        let mut mask = [0; BLOCK];
        stream.apply_keystream(&mut mask);
        Ok(Self { stream, hash, mask })
    }

    fn tag(&self, additional: &[u8], encrypted: &[u8]) -> [u8; BLOCK] {
        let mut hash = self.hash.clone();
        hash.update_padded(additional);
        hash.update_padded(encrypted);
        let mut lengths = ghash::Block::default();
        lengths[..8].copy_from_slice(&(additional.len() as u64 * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(encrypted.len() as u64 * 8).to_be_bytes());
        hash.update(&[lengths]);
        let mut tag = self.mask;
        tag.iter_mut().zip(hash.finalize()).for_each(|(tag, hash)| *tag ^= hash);
        tag
    }
}

fn gcm_seal<C>(
    key: &[u8],
    nonce: &[u8],
    mut data: Vec<u8>,
    additional: &[u8],
    tag: usize,
) -> Result<Vec<u8>, Refusal>
where
    C: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16> + KeyInit,
{
    let mut gcm = Gcm::<C>::new(key, nonce)?;
    gcm.stream.apply_keystream(&mut data);
    let whole = gcm.tag(additional, &data);
    data.extend_from_slice(&whole[..tag]);
    Ok(data)
}

fn gcm_open<C>(
    key: &[u8],
    nonce: &[u8],
    mut data: Vec<u8>,
    additional: &[u8],
    tag: usize,
) -> Result<Vec<u8>, Refusal>
where
    C: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16> + KeyInit,
{
    let mut gcm = Gcm::<C>::new(key, nonce)?;
    let length = data.len().checked_sub(tag).ok_or_else(not_decrypted)?;
    let given = data.split_off(length);
    let expected = gcm.tag(additional, &data);
    if !bool::from(expected[..tag].ct_eq(&given)) {
        return Err(not_decrypted());
    }
    gcm.stream.apply_keystream(&mut data);
    Ok(data)
}

fn tag_length(arguments: &mut Arguments) -> Result<usize, Refusal> {
    let bytes = arguments.size()?;
    if matches!(bytes, 4 | 8 | 12..=16) { Ok(bytes) } else { Err(wrong()) }
}

/// `(key, iv, data, additionalData, tagBytes)`
pub(super) fn gcm_encrypt(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (key, nonce, data) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    let (additional, tag) = (arguments.bytes()?, tag_length(arguments)?);
    let sealed = match key.len() {
        16 => gcm_seal::<Aes128>(&key, &nonce, data, &additional, tag),
        24 => gcm_seal::<Aes192>(&key, &nonce, data, &additional, tag),
        32 => gcm_seal::<Aes256>(&key, &nonce, data, &additional, tag),
        _ => Err(wrong()),
    };
    sealed.map(Value::Bytes)
}

/// `(key, iv, data and tag, additionalData, tagBytes)`
pub(super) fn gcm_decrypt(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (key, nonce, data) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    let (additional, tag) = (arguments.bytes()?, tag_length(arguments)?);
    let opened = match key.len() {
        16 => gcm_open::<Aes128>(&key, &nonce, data, &additional, tag),
        24 => gcm_open::<Aes192>(&key, &nonce, data, &additional, tag),
        32 => gcm_open::<Aes256>(&key, &nonce, data, &additional, tag),
        _ => Err(wrong()),
    };
    opened.map(Value::Bytes)
}
