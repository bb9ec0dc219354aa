use super::*;

fn no_chance(bytes: &mut [u8]) {
    bytes.fill(7);
}

#[test]
fn a_digest_is_made() {
    let abc = vec!["SHA-1".into(), Value::Bytes(b"abc".to_vec())];
    let digest = perform(op::DIGEST, abc, &mut no_chance).unwrap();
    let Value::Bytes(digest) = digest else { panic!("{digest:?}") };
    assert_eq!(digest[..4], [0xa9, 0x99, 0x3e, 0x36]);
}
