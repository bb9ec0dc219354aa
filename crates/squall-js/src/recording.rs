//! What crossed the boundary while an instance lived, in its order: enough to run the same
//! code again and get the same bytes out of it.
//!
//! Everything that a program can learn of the world comes to it by an event, by the reply
//! to a call, or by a completion. Its own doing leaves it as calls and starts. So a replay
//! delivers the former and compares the latter.
//!
//! A recording as bytes: `MAGIC`, the engine's key and the hash of the function's snapshot,
//! then entries to the end. An entry is a tag and its fields; numbers are 4 bytes,
//! little-endian, and bytes have their length before them.
//!
//! | tag | entry | fields |
//! |---|---|---|
//! | 1 | event | request, message |
//! | 2 | completion | request, operation, 1 when refused, message |
//! | 3 | call | number of the operation in `op`, arguments, 1 when refused, reply |
//! | 4 | start | number of the operation in `op`, arguments, operation |
//! | 5 | cancel | operation |
//!
//! A recording holds what the program saw, secrets among it: keep it as one.

/// What crossed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The host delivered an event that belongs to `request`.
    Event {
        request: u32,
        message: Vec<u8>,
    },
    /// The host delivered the end of something that was started.
    Completion {
        request: u32,
        operation: u32,
        refused: bool,
        message: Vec<u8>,
    },
    /// The program called, and was answered.
    Call {
        op: u32,
        arguments: Vec<u8>,
        refused: bool,
        reply: Vec<u8>,
    },
    /// The program started something and learned its number.
    Start {
        op: u32,
        arguments: Vec<u8>,
        operation: u32,
    },
    Cancel {
        operation: u32,
    },
}

impl Entry {
    /// Whether the host made it happen, rather than the program.
    pub fn is_of_the_host(&self) -> bool {
        matches!(self, Entry::Event { .. } | Entry::Completion { .. })
    }
}

/// The life of one instance, from its snapshot on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// The engine's key: another engine may do other things with the same code.
    pub engine: String,
    /// The hash of the snapshot that the instance began as.
    pub snapshot: [u8; 32],
    pub entries: Vec<Entry>,
}

const MAGIC: &[u8; 8] = b"sqjsrec1";

/// Bytes that are no recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    #[error("this is no recording, or one of another version")]
    Magic,
    #[error("the recording ends in the middle of something")]
    Truncated,
    #[error("{0} is no tag of an entry")]
    Tag(u8),
    #[error("a field of an entry holds {0}, which it can not")]
    Field(u8),
}

impl Recording {
    /// # Panics
    /// When a field has more than 2^32 - 1 bytes: what crosses comes from a smaller memory.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        write_bytes(&mut out, self.engine.as_bytes());
        out.extend_from_slice(&self.snapshot);
        for entry in &self.entries {
            write_entry(&mut out, entry);
        }
        out
    }

    /// # Errors
    /// Refuses bytes that `encode` did not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordingError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(RecordingError::Magic)?;
        let engine =
            String::from_utf8(read_bytes(&mut rest)?).map_err(|_| RecordingError::Magic)?;
        let (snapshot, after) = rest.split_first_chunk().ok_or(RecordingError::Truncated)?;
        let (snapshot, mut rest) = (*snapshot, after);
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(read_entry(&mut rest)?);
        }
        Ok(Self { engine, snapshot, entries })
    }
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Event { request, message } => {
            out.push(1);
            write_number(out, *request);
            write_bytes(out, message);
        }
        Entry::Completion { request, operation, refused, message } => {
            out.push(2);
            write_number(out, *request);
            write_number(out, *operation);
            out.push(u8::from(*refused));
            write_bytes(out, message);
        }
        Entry::Call { op, arguments, refused, reply } => {
            out.push(3);
            write_number(out, *op);
            write_bytes(out, arguments);
            out.push(u8::from(*refused));
            write_bytes(out, reply);
        }
        Entry::Start { op, arguments, operation } => {
            out.push(4);
            write_number(out, *op);
            write_bytes(out, arguments);
            write_number(out, *operation);
        }
        Entry::Cancel { operation } => {
            out.push(5);
            write_number(out, *operation);
        }
    }
}

fn read_entry(rest: &mut &[u8]) -> Result<Entry, RecordingError> {
    Ok(match read_byte(rest)? {
        1 => Entry::Event { request: read_number(rest)?, message: read_bytes(rest)? },
        2 => Entry::Completion {
            request: read_number(rest)?,
            operation: read_number(rest)?,
            refused: read_bool(rest)?,
            message: read_bytes(rest)?,
        },
        3 => Entry::Call {
            op: read_number(rest)?,
            arguments: read_bytes(rest)?,
            refused: read_bool(rest)?,
            reply: read_bytes(rest)?,
        },
        4 => Entry::Start {
            op: read_number(rest)?,
            arguments: read_bytes(rest)?,
            operation: read_number(rest)?,
        },
        5 => Entry::Cancel { operation: read_number(rest)? },
        tag => return Err(RecordingError::Tag(tag)),
    })
}

fn write_number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, u32::try_from(bytes.len()).expect("a guest's memory has 32-bit addresses"));
    out.extend_from_slice(bytes);
}

fn read_byte(rest: &mut &[u8]) -> Result<u8, RecordingError> {
    let (byte, after) = rest.split_first().ok_or(RecordingError::Truncated)?;
    *rest = after;
    Ok(*byte)
}

fn read_bool(rest: &mut &[u8]) -> Result<bool, RecordingError> {
    match read_byte(rest)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(RecordingError::Field(other)),
    }
}

fn read_number(rest: &mut &[u8]) -> Result<u32, RecordingError> {
    let (number, after) = rest.split_first_chunk().ok_or(RecordingError::Truncated)?;
    *rest = after;
    Ok(u32::from_le_bytes(*number))
}

fn read_bytes(rest: &mut &[u8]) -> Result<Vec<u8>, RecordingError> {
    let length = read_number(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(RecordingError::Truncated)?;
    *rest = after;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Entry> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            (any::<u32>(), bytes())
                .prop_map(|(request, message)| Entry::Event { request, message }),
            (any::<u32>(), any::<u32>(), any::<bool>(), bytes()).prop_map(
                |(request, operation, refused, message)| Entry::Completion {
                    request,
                    operation,
                    refused,
                    message
                }
            ),
            (any::<u32>(), bytes(), any::<bool>(), bytes()).prop_map(
                |(op, arguments, refused, reply)| Entry::Call { op, arguments, refused, reply }
            ),
            (any::<u32>(), bytes(), any::<u32>())
                .prop_map(|(op, arguments, operation)| Entry::Start { op, arguments, operation }),
            any::<u32>().prop_map(|operation| Entry::Cancel { operation }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            engine in "[a-z0-9-]{0,20}",
            snapshot in any::<[u8; 32]>(),
            entries in prop::collection::vec(entries(), 0..10),
        ) {
            let recording = Recording { engine, snapshot, entries };
            let bytes = recording.encode();
            prop_assert_eq!(Recording::decode(&bytes), Ok(recording.clone()));
            // Between two entries a recording may end: it is shorter then, and still one.
            match Recording::decode(&bytes[..bytes.len() - 1]) {
                Ok(shorter) => prop_assert!(shorter.entries.len() < recording.entries.len()),
                Err(error) => prop_assert_eq!(error, RecordingError::Truncated),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = MAGIC.to_vec();
            whole.extend_from_slice(&bytes);
            if let Ok(recording) = Recording::decode(&whole) {
                prop_assert_eq!(recording.encode(), whole);
            }
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert_eq!(Recording::decode(b"sqjsrec0"), Err(RecordingError::Magic));
        let mut bytes = Recording::default().encode();
        bytes.push(9);
        assert_eq!(Recording::decode(&bytes), Err(RecordingError::Tag(9)));
    }
}
