//! Reads protobuf's wire format in place, with positions that errors can name.

use super::{DecodeError, Fault, Problem};

/// Wire types of protobuf. Groups (3 and 4) were abandoned before remote write existed and are refused.
pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A message, or the rest of it. Positions count from the start of the request.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// The request, up to the end of this message.
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.position == self.bytes.len()
    }

    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    #[cold]
    pub fn error(&self, problem: Problem) -> Fault {
        Box::new(DecodeError::Malformed { at: self.position, problem, place: String::new() })
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Fault> {
        // A tag or a length is nearly always one byte.
        if let Some(&byte) = self.bytes.get(self.position)
            && byte < 0x80
        {
            self.position += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut input = self.rest();
        let value = crate::varint::read_u64(&mut input).ok_or_else(|| self.error(Problem::Varint))?;
        self.position = self.bytes.len() - input.len();
        Ok(value)
    }

    /// The next field's number and wire type.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u8), Fault> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(field) if field != 0 && tag <= u64::from(u32::MAX) => Ok((field, tag as u8 & 7)),
            _ => Err(self.error(Problem::Field)),
        }
    }

    /// A length-delimited field's content, as a message of its own.
    #[inline]
    pub fn message(&mut self, wire: u8) -> Result<Reader<'a>, Fault> {
        self.expect(wire, BYTES)?;
        let len = self.varint()?;
        let rest = self.bytes.len() - self.position;
        if len > rest as u64 {
            return Err(self.error(Problem::Length { announced: len, left: rest }));
        }
        let start = self.position;
        self.position += len as usize;
        Ok(Reader { bytes: &self.bytes[..self.position], position: start })
    }

    #[inline]
    pub fn bytes(&mut self, wire: u8) -> Result<&'a [u8], Fault> {
        Ok(self.message(wire)?.rest())
    }

    #[inline]
    pub fn u64(&mut self, wire: u8) -> Result<u64, Fault> {
        self.expect(wire, VARINT)?;
        self.varint()
    }

    #[inline]
    pub fn f64(&mut self, wire: u8) -> Result<f64, Fault> {
        self.expect(wire, FIXED64)?;
        self.raw_f64()
    }

    #[inline]
    fn raw_f64(&mut self) -> Result<f64, Fault> {
        let chunk = self.rest().first_chunk::<8>().ok_or_else(|| self.error(Problem::Cut))?;
        self.position += 8;
        Ok(f64::from_le_bytes(*chunk))
    }

    /// A fixed number of eight bytes.
    #[inline]
    pub fn fixed64(&mut self, wire: u8) -> Result<u64, Fault> {
        Ok(self.f64(wire)?.to_bits())
    }

    /// A fixed number of four bytes.
    pub fn fixed32(&mut self, wire: u8) -> Result<u32, Fault> {
        self.expect(wire, FIXED32)?;
        let chunk = self.rest().first_chunk::<4>().ok_or_else(|| self.error(Problem::Cut))?;
        self.position += 4;
        Ok(u32::from_le_bytes(*chunk))
    }

    /// Passes over a label of the form that all senders write: a short name, then a short value, and nothing else.
    /// `false`, without having moved, where it is another form.
    #[inline]
    pub fn skip_usual_label(&mut self) -> bool {
        let &[0x0a, len, 0x0a, name_len, ref rest @ ..] = self.rest() else { return false };
        let (len, name_len) = (usize::from(len), usize::from(name_len));
        let Some(&[0x12, value_len]) = rest.get(name_len..name_len + 2) else { return false };
        let is_usual = len < 0x80 && len == 4 + name_len + usize::from(value_len) && rest.len() + 2 >= len;
        if is_usual {
            self.position += 2 + len;
        }
        is_usual
    }

    /// A repeated number, packed or one by one.
    pub fn each_u64(&mut self, wire: u8, mut take: impl FnMut(u64)) -> Result<(), Fault> {
        if wire == VARINT {
            take(self.varint()?);
            return Ok(());
        }
        let mut packed = self.message(wire)?;
        while !packed.is_empty() {
            take(packed.varint()?);
        }
        Ok(())
    }

    /// A repeated double, packed or one by one.
    pub fn each_f64(&mut self, wire: u8, mut take: impl FnMut(f64)) -> Result<(), Fault> {
        if wire == FIXED64 {
            take(self.raw_f64()?);
            return Ok(());
        }
        let mut packed = self.message(wire)?;
        while !packed.is_empty() {
            take(packed.raw_f64()?);
        }
        Ok(())
    }

    /// A repeated fixed number of eight bytes, packed or one by one.
    pub fn each_fixed64(&mut self, wire: u8, mut take: impl FnMut(u64)) -> Result<(), Fault> {
        self.each_f64(wire, |value| take(value.to_bits()))
    }

    /// Passes over a field that we do not know.
    pub fn skip(&mut self, wire: u8) -> Result<(), Fault> {
        match wire {
            VARINT => self.varint().map(drop),
            BYTES => self.message(BYTES).map(drop),
            FIXED64 | FIXED32 => {
                let len = if wire == FIXED64 { 8 } else { 4 };
                if self.bytes.len() - self.position < len {
                    return Err(self.error(Problem::Cut));
                }
                self.position += len;
                Ok(())
            }
            other => Err(self.error(Problem::WireType { found: other })),
        }
    }

    #[inline]
    fn expect(&self, found: u8, expected: u8) -> Result<(), Fault> {
        if found == expected { Ok(()) } else { Err(self.error(Problem::WireType { found })) }
    }
}
