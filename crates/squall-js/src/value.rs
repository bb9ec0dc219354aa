//! Values as bytes. A tag, then what it says:
//!
//! | tag | value |
//! |---|---|
//! | 0 | null |
//! | 1 | undefined |
//! | 2, 3 | false, true |
//! | 4 | integer, 4 bytes |
//! | 5 | float, 8 bytes |
//! | 6 | string: length in bytes, 4 bytes, then UTF-8 |
//! | 7 | bytes: length, 4 bytes, then the bytes |
//! | 8 | array: count, 4 bytes, then the values |
//!
//! Numbers are little-endian. The guest writes them, so nothing here trusts a length.

/// Arrays in arrays: the operations need three; a guest that sends more is refused before
/// it costs a stack.
const DEPTH_MAX: usize = 16;

/// What crosses between a guest and its host.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Undefined,
    Bool(bool),
    Int(i32),
    Float(f64),
    String(String),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
}

/// Bytes that are no value: a defect of the guest's side, or an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a value ends before its end")]
    Truncated,
    #[error("{0} is no tag of a value")]
    Tag(u8),
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("arrays are nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("bytes follow a value")]
    Trailing,
    #[error("{0} was expected")]
    Kind(&'static str),
}

impl Value {
    /// Appends the value. # Panics
    /// When a string, bytes or array has more than 2^32 - 1 parts: a guest's memory is
    /// smaller than that.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out };
        match self {
            Value::Null => writer.null(),
            Value::Undefined => writer.out.push(1),
            Value::Bool(value) => writer.bool(*value),
            Value::Int(value) => writer.int(*value),
            Value::Float(value) => writer.float(*value),
            Value::String(text) => writer.str(text),
            Value::Bytes(bytes) => writer.bytes(bytes),
            Value::Array(values) => {
                writer.array(values.len());
                values.iter().for_each(|value| value.encode(out));
            }
        }
    }

    /// Reads one value that takes all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut reader = Reader { rest: bytes };
        let value = reader.value()?;
        if reader.rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

/// Writes values one after the other, without making a `Value` of them first. Panics where
/// `Value::encode` does.
pub struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn counted(&mut self, tag: u8, length: usize) {
        let length = u32::try_from(length).expect("a guest's memory has 32-bit addresses");
        self.out.push(tag);
        self.out.extend_from_slice(&length.to_le_bytes());
    }

    pub fn null(&mut self) {
        self.out.push(0);
    }
    pub fn bool(&mut self, value: bool) {
        self.out.push(2 + u8::from(value));
    }
    pub fn int(&mut self, value: i32) {
        self.out.push(4);
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    pub fn float(&mut self, value: f64) {
        self.out.push(5);
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    pub fn str(&mut self, text: &str) {
        self.counted(6, text.len());
        self.out.extend_from_slice(text.as_bytes());
    }
    /// A string with one character for each byte, as HTTP headers are read.
    pub fn latin1(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.is_ascii() => self.str(text),
            _ => self.str(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>()),
        }
    }
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.counted(7, bytes.len());
        self.out.extend_from_slice(bytes);
    }
    /// `count` values must follow.
    pub fn array(&mut self, count: usize) {
        self.counted(8, count);
    }
}

/// Reads values one after the other, in place: for operations that are too frequent to
/// make a `Value` of what they get.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A value as it lies in the message. Of an array only its count: its values come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    Null,
    Undefined,
    Bool(bool),
    Int(i32),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Array(usize),
}

impl<'a> Reader<'a> {
    /// The arguments of an operation: an array, whose values come next.
    pub fn arguments(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Self { rest: message };
        reader.array()?;
        Ok(reader)
    }

    pub fn item(&mut self) -> Result<Item<'a>, DecodeError> {
        let [tag] = self.fixed()?;
        Ok(match tag {
            0 => Item::Null,
            1 => Item::Undefined,
            2 => Item::Bool(false),
            3 => Item::Bool(true),
            4 => Item::Int(i32::from_le_bytes(self.fixed()?)),
            5 => Item::Float(f64::from_le_bytes(self.fixed()?)),
            6 => {
                let text = std::str::from_utf8(self.counted()?).map_err(|_| DecodeError::Utf8)?;
                Item::Str(text)
            }
            7 => Item::Bytes(self.counted()?),
            8 => {
                let count = u32::from_le_bytes(self.fixed()?) as usize;
                // Every value takes a byte at least: a count can not make anybody reserve
                // more than was sent.
                if count > self.rest.len() {
                    return Err(DecodeError::Truncated);
                }
                Item::Array(count)
            }
            tag => return Err(DecodeError::Tag(tag)),
        })
    }

    /// # Errors
    /// As `item`; and when the next value is something else.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        match self.item()? {
            Item::Int(value) => Ok(value),
            _ => Err(DecodeError::Kind("an integer")),
        }
    }

    /// A number of either kind. # Errors
    /// As `int`.
    pub fn number(&mut self) -> Result<f64, DecodeError> {
        match self.item()? {
            Item::Int(value) => Ok(value.into()),
            Item::Float(value) => Ok(value),
            _ => Err(DecodeError::Kind("a number")),
        }
    }

    /// # Errors
    /// As `int`.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        match self.item()? {
            Item::Str(text) => Ok(text),
            _ => Err(DecodeError::Kind("a string")),
        }
    }

    /// # Errors
    /// As `int`.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        match self.item()? {
            Item::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::Kind("bytes")),
        }
    }

    /// # Errors
    /// As `int`.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.item()? {
            Item::Bool(value) => Ok(value),
            _ => Err(DecodeError::Kind("a boolean")),
        }
    }

    /// The count of an array; its values come next. # Errors
    /// As `int`.
    pub fn array(&mut self) -> Result<usize, DecodeError> {
        match self.item()? {
            Item::Array(count) => Ok(count),
            _ => Err(DecodeError::Kind("an array")),
        }
    }

    /// The next value, copied out.
    pub fn value(&mut self) -> Result<Value, DecodeError> {
        self.nested(DEPTH_MAX)
    }

    fn nested(&mut self, depth_left: usize) -> Result<Value, DecodeError> {
        Ok(match self.item()? {
            Item::Null => Value::Null,
            Item::Undefined => Value::Undefined,
            Item::Bool(value) => Value::Bool(value),
            Item::Int(value) => Value::Int(value),
            Item::Float(value) => Value::Float(value),
            Item::Str(text) => Value::String(text.to_owned()),
            Item::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Item::Array(count) => {
                let inner = depth_left.checked_sub(1).ok_or(DecodeError::Depth)?;
                let values = (0..count).map(|_| self.nested(inner));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
        })
    }

    fn counted(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u32::from_le_bytes(self.fixed()?) as usize;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(Value::Undefined),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(Value::Int),
            // Not a number is not equal to itself.
            any::<i64>().prop_map(|value| Value::Float(value as f64 / 7.0)),
            ".{0,20}".prop_map(Value::String),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop::collection::vec(inner, 0..6).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            prop_assert_eq!(Value::decode(&bytes), Ok(value));
            prop_assert_eq!(
                Value::decode(&bytes[..bytes.len() - 1]).unwrap_err(),
                DecodeError::Truncated
            );
            bytes.push(0);
            prop_assert_eq!(Value::decode(&bytes), Err(DecodeError::Trailing));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = Value::decode(&bytes) {
                let mut again = Vec::new();
                value.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn what_a_guest_should_not_send_is_refused() {
        assert_eq!(Value::decode(&[]), Err(DecodeError::Truncated));
        assert_eq!(Value::decode(&[9]), Err(DecodeError::Tag(9)));
        assert_eq!(Value::decode(&[6, 1, 0, 0, 0, 0xff]), Err(DecodeError::Utf8));
        assert_eq!(Value::decode(&[7, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated));
        assert_eq!(Value::decode(&[8, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated));
        let deep: Vec<u8> = [8, 1, 0, 0, 0].repeat(100);
        assert_eq!(Value::decode(&deep), Err(DecodeError::Depth));
    }
}
