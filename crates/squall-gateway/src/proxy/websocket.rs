//! Where the frames of a WebSocket end (RFC 6455, section 5.2), so that one of our own can
//! stand between two of them. Nothing else is read of them.

/// Going away (section 7.4.1), as a server says it.
pub(super) const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
/// The same as a client says it: masked. The mask hides nothing, and must only be there.
pub(super) const CLOSE_TO_SERVER: [u8; 8] = [0x88, 0x82, 0x5a, 0x96, 0x3c, 0xc3, 0x59, 0x7f];

const OPCODE_CLOSE: u8 = 8;

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What is there of the present header.
    header: [u8; 14],
    header_bytes: usize,
    /// What is missing of the present payload.
    payload_left: u64,
    closed: bool,
}

impl Frames {
    pub(super) fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0
    }

    /// A close frame has gone by: nothing comes after it.
    pub(super) fn has_closed(&self) -> bool {
        self.closed
    }

    /// Reads on, to the end of the present frame or of all. Returns how many bytes that is.
    pub(super) fn advance(&mut self, bytes: &[u8], to_boundary: bool) -> usize {
        let mut place = 0;
        while place < bytes.len() && !(to_boundary && self.at_boundary()) {
            if self.payload_left > 0 {
                let here = self.payload_left.min((bytes.len() - place) as u64);
                self.payload_left -= here;
                place += here as usize;
                continue;
            }
            self.header[self.header_bytes] = bytes[place];
            self.header_bytes += 1;
            place += 1;
            if self.header_bytes == self.header_length() {
                self.begin_payload();
            }
        }
        place
    }

    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.header[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn begin_payload(&mut self) {
        let long = &self.header[2..10];
        self.payload_left = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([long[0], long[1]])),
            127 => u64::from_be_bytes(long.try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        self.closed |= self.header[0] & 0x0f == OPCODE_CLOSE;
        self.header_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; payload + if masked { 4 } else { 0 }]);
        frame
    }

    #[test]
    fn our_own_frames_are_frames() {
        for close in [&CLOSE_TO_CLIENT[..], &CLOSE_TO_SERVER] {
            let mut frames = Frames::default();
            assert_eq!(frames.advance(close, false), close.len());
            assert!(frames.at_boundary() && frames.has_closed());
        }
        let mask = &CLOSE_TO_SERVER[2..6];
        let code = [CLOSE_TO_SERVER[6] ^ mask[0], CLOSE_TO_SERVER[7] ^ mask[1]];
        assert_eq!(u16::from_be_bytes(code), 1001);
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_come(
            frames in proptest::collection::vec((0u8..3, any::<bool>(), 0usize..70_000), 1..6),
            piece in 1usize..5_000,
            part_at in 0usize..200_000,
        ) {
            let frames: Vec<Vec<u8>> =
                frames.into_iter().map(|(opcode, masked, bytes)| frame(opcode, masked, bytes)).collect();
            let all = frames.concat();
            let mut boundaries = vec![0];
            for frame in &frames {
                boundaries.push(boundaries.last().unwrap() + frame.len());
            }
            let part_at = part_at.min(all.len());
            let mut found = Frames::default();
            for bytes in all[..part_at].chunks(piece) {
                prop_assert_eq!(found.advance(bytes, false), bytes.len());
            }
            prop_assert_eq!(found.at_boundary(), boundaries.contains(&part_at));
            let next = boundaries.iter().find(|boundary| **boundary >= part_at).unwrap();
            prop_assert_eq!(found.advance(&all[part_at..], true), next - part_at);
            prop_assert!(found.at_boundary() && !found.has_closed());
        }
    }
}
