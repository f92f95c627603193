//! AMF0, the notation of commands and metadata (Adobe, "Action Message Format -- AMF 0", 2007), read
//! within bounds.

use serde_json::{Map, Value as Json};

use crate::rtmp::RtmpError;
use crate::rtmp::wire::{take, take_u8, take_u32, take_uint};

/// One value. Objects keep the order of their members.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// A short or long string, or an XML document.
    Text(String),
    /// An object, typed or not, or an ECMA array.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Null, undefined or unsupported.
    Null,
}

impl Value {
    /// A string value.
    pub fn text(text: &str) -> Self {
        Value::Text(text.to_owned())
    }

    /// An object of the given members.
    pub fn object<const N: usize>(members: [(&str, Value); N]) -> Self {
        Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The member `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The same as JSON; numbers that JSON has no word for become null.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Number(number) => Json::from(*number),
            Value::Bool(value) => Json::from(*value),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Object(members) => Json::Object(
                members.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>(),
            ),
            Value::Array(values) => Json::Array(values.iter().map(Value::to_json).collect()),
            Value::Null => Json::Null,
        }
    }
}

/// What one message may hold.
#[derive(Clone, Copy, Debug)]
pub struct AmfLimits {
    /// Depth of nesting.
    pub depth: usize,
    /// Values, nested ones counted.
    pub values: usize,
    /// Bytes of one string.
    pub string_bytes: usize,
}

/// Markers of section 2.1.
mod marker {
    pub const NUMBER: u8 = 0;
    pub const BOOLEAN: u8 = 1;
    pub const STRING: u8 = 2;
    pub const OBJECT: u8 = 3;
    pub const NULL: u8 = 5;
    pub const UNDEFINED: u8 = 6;
    pub const ECMA_ARRAY: u8 = 8;
    pub const OBJECT_END: u8 = 9;
    pub const STRICT_ARRAY: u8 = 10;
    pub const DATE: u8 = 11;
    pub const LONG_STRING: u8 = 12;
    pub const UNSUPPORTED: u8 = 13;
    pub const XML: u8 = 15;
    pub const TYPED_OBJECT: u8 = 16;
}

const TRUNCATED: RtmpError = RtmpError::Amf("it ends within a value");

/// Reads values off a message body.
pub struct Reader<'a> {
    rest: &'a [u8],
    limits: AmfLimits,
    left: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `data`.
    pub fn new(data: &'a [u8], limits: AmfLimits) -> Self {
        Reader { rest: data, limits, left: limits.values }
    }

    /// The next value, or `None` at the end.
    pub fn read(&mut self) -> Result<Option<Value>, RtmpError> {
        if self.rest.is_empty() { Ok(None) } else { self.value(self.limits.depth).map(Some) }
    }

    /// All values up to the end.
    pub fn all(mut self) -> Result<Vec<Value>, RtmpError> {
        let mut values = Vec::new();
        while let Some(value) = self.read()? {
            values.push(value);
        }
        Ok(values)
    }

    fn value(&mut self, depth: usize) -> Result<Value, RtmpError> {
        self.left = self.left.checked_sub(1).ok_or(RtmpError::Amf("too many values"))?;
        match take_u8(&mut self.rest).ok_or(TRUNCATED)? {
            marker::NUMBER => self.number().map(Value::Number),
            marker::BOOLEAN => Ok(Value::Bool(take_u8(&mut self.rest).ok_or(TRUNCATED)? != 0)),
            marker::STRING => self.string(2).map(Value::Text),
            marker::LONG_STRING | marker::XML => self.string(4).map(Value::Text),
            marker::NULL | marker::UNDEFINED | marker::UNSUPPORTED => Ok(Value::Null),
            marker::DATE => {
                let date = self.number()?;
                take(&mut self.rest, 2).ok_or(TRUNCATED)?;
                Ok(Value::Number(date))
            }
            marker::OBJECT => self.members(depth),
            marker::TYPED_OBJECT => {
                self.string(2)?;
                self.members(depth)
            }
            marker::ECMA_ARRAY => {
                // The count is a hint at best: encoders write 0 or one too few.
                take(&mut self.rest, 4).ok_or(TRUNCATED)?;
                self.members(depth)
            }
            marker::STRICT_ARRAY => self.array(depth),
            _ => Err(RtmpError::Amf("a type that is not AMF0's or not of use here")),
        }
    }

    fn number(&mut self) -> Result<f64, RtmpError> {
        take_uint(&mut self.rest, 8).map(f64::from_bits).ok_or(TRUNCATED)
    }

    fn string(&mut self, length_bytes: usize) -> Result<String, RtmpError> {
        let length = take_uint(&mut self.rest, length_bytes).ok_or(TRUNCATED)? as usize;
        if length > self.limits.string_bytes {
            return Err(RtmpError::Amf("a string is too long"));
        }
        let bytes = take(&mut self.rest, length).ok_or(TRUNCATED)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn deeper(depth: usize) -> Result<usize, RtmpError> {
        depth.checked_sub(1).ok_or(RtmpError::Amf("objects stand in one another too deeply"))
    }

    /// Members up to the end marker; the end of the message does as well, since encoders forget it.
    fn members(&mut self, depth: usize) -> Result<Value, RtmpError> {
        let depth = Self::deeper(depth)?;
        let mut members = Vec::new();
        while !self.rest.is_empty() {
            let name = self.string(2)?;
            if name.is_empty() && self.rest.first().is_none_or(|&marker| marker == marker::OBJECT_END) {
                take_u8(&mut self.rest);
                break;
            }
            members.push((name, self.value(depth)?));
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Value, RtmpError> {
        let depth = Self::deeper(depth)?;
        let count = take_u32(&mut self.rest).ok_or(TRUNCATED)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth)?);
        }
        Ok(Value::Array(values))
    }
}

/// Writes a value; strings beyond 65,535 bytes are cut.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Bool(value) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*value)]),
        Value::Text(text) => {
            out.push(marker::STRING);
            write_string(out, text);
        }
        Value::Object(members) => {
            out.push(marker::OBJECT);
            for (name, value) in members {
                write_string(out, name);
                write(out, value);
            }
            out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
        }
        Value::Array(values) => {
            out.push(marker::STRICT_ARRAY);
            out.extend_from_slice(&(values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| write(out, value));
        }
        Value::Null => out.push(marker::NULL),
    }
}

/// Writes values one after the other.
pub fn write_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| write(&mut out, value));
    out
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: AmfLimits = AmfLimits { depth: 4, values: 64, string_bytes: 100 };

    #[test]
    fn what_is_written_is_read() {
        let values = [
            Value::text("connect"),
            Value::Number(1.0),
            Value::object([("app", Value::text("live")), ("ok", Value::Bool(true)), ("none", Value::Null)]),
            Value::Array(vec![Value::Number(-0.5), Value::text("")]),
        ];
        assert_eq!(Reader::new(&write_all(&values), LIMITS).all().unwrap(), values);
    }

    #[test]
    fn metadata_without_its_end_is_read() {
        let data = b"\x08\0\0\0\x01\0\x05width\0\x40\x84\0\0\0\0\0\0";
        let value = Reader::new(data, LIMITS).read().unwrap().unwrap();
        assert_eq!(value.to_json(), serde_json::json!({"width": 640.0}));
    }

    #[test]
    fn bounds_hold() {
        let refused = |data: &[u8]| Reader::new(data, LIMITS).all().unwrap_err();
        let deep: Vec<u8> = b"\x03\0\x01a".repeat(5);
        assert_eq!(refused(&deep), RtmpError::Amf("objects stand in one another too deeply"));
        assert_eq!(refused(&[5; 65]), RtmpError::Amf("too many values"));
        assert_eq!(refused(b"\x0a\xff\xff\xff\xff\x05"), TRUNCATED);
        assert_eq!(refused(b"\x0c\0\0\0\x65"), RtmpError::Amf("a string is too long"));
        assert!(matches!(refused(b"\x11\x0a"), RtmpError::Amf(_)));
        assert_eq!(refused(b"\0\x40"), TRUNCATED);
    }
}
