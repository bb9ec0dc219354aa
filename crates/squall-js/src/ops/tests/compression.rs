use std::ops::Range;

use proptest::prelude::*;

use super::*;

const FORMATS: [&str; 4] = ["deflate", "deflate-raw", "gzip", "brotli"];

/// A stream of its own, written to in pieces.
struct Codec {
    streams: Streams,
    handle: Value,
}

impl Codec {
    fn new(format: &str, compresses: bool) -> Self {
        let mut streams = Streams::new(64 << 20);
        let arguments = vec![format.into(), Value::Bool(compresses)];
        let handle = streams.perform(1, op::COMPRESSION_NEW, arguments).unwrap();
        Self { streams, handle }
    }

    fn write(&mut self, data: &[u8], last: bool) -> Result<Value, Refusal> {
        let arguments = vec![self.handle.clone(), bytes(data), Value::Bool(last)];
        self.streams.perform(1, op::COMPRESSION_WRITE, arguments)
    }

    /// The pieces one after the other, then the end.
    fn whole<'a>(mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, Refusal> {
        let mut output = Vec::new();
        for piece in pieces {
            output.extend(into_bytes(self.write(piece, false)?));
        }
        output.extend(into_bytes(self.write(&[], true)?));
        assert_eq!(self.streams.count(), 0);
        Ok(output)
    }
}

fn compress(format: &str, data: &[u8]) -> Vec<u8> {
    Codec::new(format, true).whole([data].into_iter()).unwrap()
}

fn decompress(format: &str, data: &[u8]) -> Result<Vec<u8>, Refusal> {
    Codec::new(format, false).whole([data].into_iter())
}

/// Made by the zlib and the brotli of Node.js: format, compressed, data.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let text = "It is raining in the mountains, and it is raining in the valley. ".repeat(3);
    let raw = hex("f32c51c82c56284acccccbcc4b57c8cc5328c94855c8cd2fcd2b49cccc2bd651
         48cc4b51c8c4a6a62c312727b5524fc173c00d0000");
    let zlib = [&hex("789c"), &raw[..], &hex("631c44bf")].concat();
    let gzip = [&hex("1f8b0800000000000003"), &raw[..], &hex("465d9e71c3000000")].concat();
    let brotli = hex("1bc200e01c09760cb28e11328eae32298caed3dce4e626c8591a6cc0814b39c5
         3ea00f1339a2b2e6ff34b774d1f248f34f00c7c5cf6d");
    // A gzip header with extra data, a name, a comment, and a checksum of its own.
    let long_head = hex("1f8b081e00000000000303000102036e616d6500636f6d6d656e7400
         3436cb48cdc9c9070086a6103605000000");
    vec![
        ("deflate-raw", raw, text.clone().into()),
        ("deflate", zlib, text.clone().into()),
        ("gzip", gzip, text.clone().into()),
        ("brotli", brotli, text.into()),
        ("gzip", long_head, b"hello".to_vec()),
        ("deflate-raw", hex("010500faff68656c6c6f"), b"hello".to_vec()),
        ("brotli", hex("1f0900f8270082840000"), vec![0; 10]),
        ("brotli", hex("a14800c03f0110240400"), vec![0; 10]),
    ]
}

#[test]
fn what_others_compressed_is_decompressed() {
    for (format, compressed, data) in samples() {
        assert_eq!(decompress(format, &compressed).unwrap(), data, "{format}");
        let bytewise = Codec::new(format, false).whole(compressed.chunks(1)).unwrap();
        assert_eq!(bytewise, data, "{format}");
    }
}

#[test]
fn the_last_piece_may_bring_data() {
    for (format, compressed, data) in samples() {
        let mut codec = Codec::new(format, false);
        assert_eq!(codec.write(&compressed, true), Ok(Value::Bytes(data.clone())));
        let mut codec = Codec::new(format, true);
        let compressed = into_bytes(codec.write(&data, true).unwrap());
        assert_eq!(decompress(format, &compressed).unwrap(), data);
    }
}

#[test]
fn data_that_is_cut_short_is_refused() {
    for (format, compressed, _) in samples() {
        for length in 0..compressed.len() {
            let refusal = decompress(format, &compressed[..length]).unwrap_err();
            assert_eq!(refusal.name, "TypeError", "{format} after {length}");
        }
    }
}

#[test]
fn input_behind_the_end_is_told() {
    for (format, compressed, data) in samples() {
        let behind = Value::Array(vec![Value::Bytes(data.clone())]);
        // In the same piece, whatever follows: also another member of gzip.
        for more in [&b"x"[..], &compressed] {
            for last in [false, true] {
                let mut codec = Codec::new(format, false);
                let with_more = [&compressed[..], more].concat();
                assert_eq!(codec.write(&with_more, last), Ok(behind.clone()), "{format}");
                assert_eq!(codec.streams.count(), 0);
            }
        }
        // In a later piece. Pieces without bytes are none.
        let mut codec = Codec::new(format, false);
        assert_eq!(codec.write(&compressed, false), Ok(Value::Bytes(data)));
        assert_eq!(codec.write(&[], false), Ok(bytes([])));
        assert_eq!(codec.write(b"x", false), Ok(Value::Array(vec![bytes([])])));
        assert_eq!(codec.write(&[], true).unwrap_err().name, "TypeError");
    }
}

#[test]
fn wrong_checksums_are_refused() {
    for (format, compressed, _) in samples() {
        let checksums: Range<usize> = match format {
            "gzip" => compressed.len() - 8..compressed.len(),
            "deflate" => compressed.len() - 4..compressed.len(),
            _ => continue,
        };
        for at in checksums {
            let mut other = compressed.clone();
            other[at] ^= 1;
            assert_eq!(decompress(format, &other).unwrap_err().name, "TypeError");
        }
    }
}

#[test]
fn what_is_no_compressed_data_is_refused_and_ends_the_stream() {
    for format in FORMATS {
        let mut codec = Codec::new(format, false);
        let refusal = codec.write(&[0xff; 40], false).unwrap_err();
        assert_eq!(refusal.name, "TypeError", "{format}");
        assert_eq!(codec.streams.count(), 0);
    }
    // A window of 2^28 bytes, which is an extension of brotli's format.
    assert!(decompress("brotli", &hex("115c2400e09f0008120200")).is_err());
    // A dictionary that nobody has.
    assert!(decompress("deflate", &hex("78bb00000001")).is_err());
}

#[test]
fn nothing_becomes_an_empty_stream() {
    for format in FORMATS {
        let compressed = compress(format, &[]);
        assert!(!compressed.is_empty());
        assert_eq!(decompress(format, &compressed), Ok(vec![]));
    }
}

#[test]
fn large_data_comes_back() {
    let mut data = vec![0; 1 << 20];
    chance()(&mut data[..300_000]);
    for format in FORMATS {
        let compressed = Codec::new(format, true).whole(data.chunks(65_537)).unwrap();
        assert!(compressed.len() < 310_000, "{format}");
        let back = Codec::new(format, false).whole(compressed.chunks(999)).unwrap();
        assert!(back == data, "{format}");
    }
}

#[test]
fn a_bomb_is_refused() {
    // 32 MiB of zeros, by Node.js.
    let brotli = hex("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200
                      ddfbbffcffffc33f0110870500baf77f");
    let zeros = vec![0; 66 << 20];
    for (format, compressed) in [("brotli", brotli), ("gzip", compress("gzip", &zeros))] {
        let mut codec = Codec::new(format, false);
        assert_eq!(codec.write(&compressed, false).unwrap_err().name, "RangeError");
        assert_eq!(codec.streams.count(), 0);
    }
    // Piece by piece the same data is no bomb.
    let compressed = compress("gzip", &zeros);
    let back = Codec::new("gzip", false).whole(compressed.chunks(16_384)).unwrap();
    assert_eq!(back.len(), zeros.len());
}

#[test]
fn what_a_short_piece_may_give_is_exact() {
    let length = 17 << 20;
    let whole = compress("brotli", &vec![0; length]);
    assert_eq!(decompress("brotli", &whole).unwrap().len(), length);
    let more = compress("brotli", &vec![0; length + 1]);
    assert!(decompress("brotli", &more).is_err_and(|refusal| refusal.name == "RangeError"));
}

#[test]
fn formats_have_names() {
    let mut streams = Streams::new(1 << 20);
    for format in ["GZIP", "zstd", ""] {
        for compresses in [true, false] {
            let arguments = vec![format.into(), Value::Bool(compresses)];
            let refusal = streams.perform(1, op::COMPRESSION_NEW, arguments).unwrap_err();
            assert_eq!(refusal.name, "TypeError");
        }
    }
}

/// Data that compresses in places, and where it is cut.
fn data_and_cuts() -> impl Strategy<Value = (Vec<u8>, Vec<prop::sample::Index>)> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..2_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let data = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    (data, prop::collection::vec(any::<prop::sample::Index>(), 0..12))
}

fn pieces<'a>(data: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
    places.extend([0, data.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn data_comes_back_however_it_is_cut((data, cuts) in data_and_cuts()) {
        for format in FORMATS {
            let cut = pieces(&data, &cuts);
            let compressed = Codec::new(format, true).whole(cut.into_iter()).unwrap();
            let cut = pieces(&compressed, &cuts);
            let back = Codec::new(format, false).whole(cut.into_iter()).unwrap();
            prop_assert_eq!(&back, &data);
        }
    }

    #[test]
    fn changed_data_is_decompressed_or_refused(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let samples = samples();
        let (format, mut compressed, _) = samples[sample.index(samples.len())].clone();
        for (at, byte) in changes {
            let at = at.index(compressed.len());
            compressed[at] = byte;
        }
        let mut codec = Codec::new(format, false);
        for piece in pieces(&compressed, &cuts) {
            match codec.write(piece, false) {
                Ok(Value::Bytes(_)) => {}
                Ok(Value::Array(_)) => break,
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(refusal) => {
                    prop_assert!(matches!(refusal.name, "TypeError" | "RangeError"));
                    break;
                }
            }
        }
    }
}
