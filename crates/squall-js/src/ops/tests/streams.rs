use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

fn new_compression(
    streams: &mut Streams,
    request: u32,
    format: &str,
    compresses: bool,
) -> Result<Value, Refusal> {
    streams.perform(request, op::COMPRESSION_NEW, vec![format.into(), Value::Bool(compresses)])
}

fn new_decoder(
    streams: &mut Streams,
    request: u32,
    encoding: &str,
    fatal: bool,
) -> Result<Value, Refusal> {
    let arguments = vec![encoding.into(), Value::Bool(fatal), Value::Bool(false)];
    streams.perform(request, op::DECODER_NEW, arguments)
}

fn piece(handle: &Value, data: &[u8], last: bool) -> Vec<Value> {
    vec![handle.clone(), bytes(data), Value::Bool(last)]
}

fn name<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    result.unwrap_err().name
}

#[test]
fn a_decoder_keeps_what_is_not_complete() {
    let mut streams = Streams::new(MIB);
    let decoder = new_decoder(&mut streams, 1, "shift_jis", false).unwrap();
    let mut write =
        |data: &[u8], last| streams.perform(1, op::DECODER_WRITE, piece(&decoder, data, last));
    assert_eq!(write(b"\x93", false), Ok("".into()));
    assert_eq!(write(b"\xfa\x96", false), Ok("日".into()));
    assert_eq!(write(b"{", false), Ok("本".into()));
    assert_eq!(write(b"\x93", true), Ok("\u{fffd}".into()));
    assert_eq!(name(write(b"a", false)), "TypeError");
}

#[test]
fn a_fatal_decoder_ends_with_malformed_input() {
    let mut streams = Streams::new(MIB);
    let decoder = new_decoder(&mut streams, 1, "utf-16le", true).unwrap();
    let mut write =
        |data: &[u8], last| streams.perform(1, op::DECODER_WRITE, piece(&decoder, data, last));
    assert_eq!(write(b"a", false), Ok("".into()));
    assert_eq!(write(b"\0\0\xdc", false), Ok(Value::Null));
    assert_eq!(name(write(b"a", false)), "TypeError");
    assert_eq!(streams.count(), 0);
}

#[test]
fn streams_end_with_their_request() {
    let mut streams = Streams::new(64 * MIB);
    let first = new_compression(&mut streams, 1, "gzip", true).unwrap();
    let second = new_compression(&mut streams, 2, "gzip", true).unwrap();
    new_decoder(&mut streams, 1, "big5", true).unwrap();
    streams.end_request(1);
    assert_eq!(streams.count(), 1);
    assert_eq!(
        name(streams.perform(1, op::COMPRESSION_WRITE, piece(&first, b"", true))),
        "TypeError"
    );
    assert!(streams.perform(2, op::COMPRESSION_WRITE, piece(&second, b"", true)).is_ok());
    assert_eq!(streams.count(), 0);
    assert_eq!(streams.bytes(), 0);
}

#[test]
fn a_write_can_happen_on_another_thread() {
    let mut streams = Streams::new(64 * MIB);
    let handle = new_compression(&mut streams, 1, "gzip", true).unwrap();
    let data = vec![b'x'; 100_000];
    let write = streams.begin_write(op::COMPRESSION_WRITE, piece(&handle, &data, false)).unwrap();
    // Meanwhile the stream takes nothing else, and others are not disturbed.
    let busy = streams.perform(1, op::COMPRESSION_WRITE, piece(&handle, b"", true));
    assert_eq!(name(busy), "TypeError");
    let busy = streams.begin_write(op::COMPRESSION_WRITE, piece(&handle, b"", true));
    assert_eq!(name(busy), "TypeError");
    assert!(new_compression(&mut streams, 1, "gzip", true).is_ok());

    let written = std::thread::spawn(|| write.run()).join().unwrap();
    let mut compressed = into_bytes(streams.end_write(written).unwrap());
    let last = streams.perform(1, op::COMPRESSION_WRITE, piece(&handle, b"", true)).unwrap();
    compressed.extend(into_bytes(last));

    let handle = new_compression(&mut streams, 1, "gzip", false).unwrap();
    let back = streams.perform(1, op::COMPRESSION_WRITE, piece(&handle, &compressed, true));
    assert_eq!(back, Ok(Value::Bytes(data)));
}

#[test]
fn a_request_may_end_while_its_stream_is_away() {
    let mut streams = Streams::new(64 * MIB);
    let handle = new_compression(&mut streams, 1, "brotli", true).unwrap();
    let write = streams.begin_write(op::COMPRESSION_WRITE, piece(&handle, b"x", false)).unwrap();
    streams.end_request(1);
    let other = new_compression(&mut streams, 2, "gzip", true).unwrap();
    assert_ne!(other, handle);
    assert!(streams.end_write(write.run()).is_ok());
    assert_eq!(streams.count(), 1);
    assert_eq!(
        name(streams.perform(1, op::COMPRESSION_WRITE, piece(&handle, b"", true))),
        "TypeError"
    );
    // A write that never comes back goes with its request as well.
    streams.begin_write(op::COMPRESSION_WRITE, piece(&other, b"x", false)).unwrap();
    streams.end_request(2);
    assert_eq!((streams.count(), streams.bytes()), (0, 0));
}

#[test]
fn a_handle_is_for_its_own_kind_of_stream() {
    let mut streams = Streams::new(64 * MIB);
    let decoder = new_decoder(&mut streams, 1, "big5", true).unwrap();
    let gzip = new_compression(&mut streams, 1, "gzip", true).unwrap();
    for (operation, handle) in [
        (op::COMPRESSION_WRITE, decoder),
        (op::DECODER_WRITE, gzip),
        (op::DECODER_WRITE, Value::Int(0)),
        (op::DECODER_WRITE, Value::Int(-1)),
        (op::DECODER_WRITE, Value::Int(77)),
        (op::DECODER_WRITE, Value::Null),
        (op::DIGEST, Value::Int(1)),
    ] {
        assert_eq!(name(streams.perform(1, operation, piece(&handle, b"", true))), "TypeError");
    }
    assert_eq!(streams.count(), 2);
}

#[test]
fn an_instance_has_so_many_streams() {
    let mut streams = Streams::new(64 * MIB);
    for _ in 0..1_024 {
        new_decoder(&mut streams, 1, "big5", true).unwrap();
    }
    let refusal = new_decoder(&mut streams, 2, "big5", true).unwrap_err();
    assert_eq!(refusal.name, "RangeError");
    assert!(refusal.message.contains("1024"), "{}", refusal.message);
    streams.end_request(1);
    assert!(new_decoder(&mut streams, 2, "big5", true).is_ok());
}

#[test]
fn streams_have_so_much_memory() {
    let mut streams = Streams::new(9 * MIB);
    let first = new_compression(&mut streams, 1, "brotli", true).unwrap();
    assert_eq!(name(new_compression(&mut streams, 1, "brotli", true)), "RangeError");
    streams.perform(1, op::COMPRESSION_WRITE, piece(&first, b"", true)).unwrap();
    // What a decompression takes is known with its first byte: here a window of 16 MiB.
    let window_16_mib = hex("1f0900f8270082840000");
    let window_1_kib = hex("a14800c03f0110240400");
    let large = new_compression(&mut streams, 1, "brotli", false).unwrap();
    let small = new_compression(&mut streams, 1, "brotli", false).unwrap();
    let refused = streams.perform(1, op::COMPRESSION_WRITE, piece(&large, &window_16_mib, false));
    assert_eq!(name(refused), "RangeError");
    assert_eq!(streams.count(), 1);
    let first_byte = piece(&small, &window_1_kib[..1], false);
    assert_eq!(streams.perform(1, op::COMPRESSION_WRITE, first_byte), Ok(bytes([])));
    let rest = piece(&small, &window_1_kib[1..], true);
    assert_eq!(streams.perform(1, op::COMPRESSION_WRITE, rest), Ok(bytes([0; 10])));
    assert_eq!((streams.count(), streams.bytes()), (0, 0));
}

proptest! {
    #[test]
    fn text_is_the_same_however_it_is_cut(
        encoding in prop::sample::select(vec![
            "utf-16le", "utf-16be", "shift_jis", "euc-jp", "iso-2022-jp", "gb18030", "big5",
            "euc-kr", "windows-1252", "x-user-defined",
        ]),
        fatal in any::<bool>(),
        // Mostly bytes that begin, go on with or end something.
        data in prop::collection::vec(prop_oneof![
            prop::sample::select(b"\x1b$B(J\0\xd8\xdc\xfe\xff\x81\x30\xa1".to_vec()),
            any::<u8>(),
        ], 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let options = [encoding.into(), Value::Bool(fatal), Value::Bool(false)];
        let [encoding, fatal, keep_bom] = options.clone();
        let whole = run(op::DECODE, [encoding, fatal, keep_bom, bytes(&data)]);

        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        places.extend([0, data.len()]);
        places.sort_unstable();
        let mut streams = Streams::new(MIB);
        let decoder = streams.perform(1, op::DECODER_NEW, options.to_vec()).unwrap();
        let mut text = Some(String::new());
        for (index, pair) in places.windows(2).enumerate() {
            let last = index == places.len() - 2;
            let arguments = piece(&decoder, &data[pair[0]..pair[1]], last);
            match (streams.perform(1, op::DECODER_WRITE, arguments).unwrap(), &mut text) {
                (Value::String(more), Some(text)) => text.push_str(&more),
                (Value::Null, _) => {
                    text = None;
                    break;
                }
                (other, _) => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(text.map_or(Value::Null, Value::String), whole);
        prop_assert_eq!(streams.count(), 0);
    }
}
