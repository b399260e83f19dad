//! The elements of a data set (DICOM PS3.5, chapter 7), as slices of the file's bytes.
//!
//! No allocation depends on a length field, only on the bytes that exist. This is the reason for a reader of our own:
//! dicom-rs, which writes the segmentations, allocates a value (up to 4 GiB) before it checks that the file contains it.

use std::collections::BTreeMap;

use super::tags::{self, Tag};

/// The deepest nesting of sequences; the attributes that are read lie at depth 3.
const MAX_DEPTH: usize = 32;
/// The value has no explicit length and ends at a delimiter.
const UNDEFINED: u32 = u32::MAX;

/// How elements are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) explicit: bool,
    pub(crate) big_endian: bool,
}

impl Encoding {
    pub(crate) const EXPLICIT: Self = Self { explicit: true, big_endian: false };
    pub(crate) const IMPLICIT: Self = Self { explicit: false, big_endian: false };
}

/// Why a data set cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// A value extends past the end of its container.
    Truncated,
    /// The bytes are not a data element.
    Malformed,
    /// Sequences are nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// The value of an element.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<Dataset<'a>>),
    /// The fragments of compressed pixel data; the first one is the offset table.
    Fragments(Vec<&'a [u8]>),
}

/// The elements of a data set that [`tags`] lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dataset<'a> {
    elements: BTreeMap<Tag, Value<'a>>,
    big_endian: bool,
}

impl<'a> Dataset<'a> {
    /// Reads `bytes` to their end. After an error it returns the elements before it as well: they may identify the series
    /// of a damaged file.
    pub(crate) fn read(bytes: &'a [u8], encoding: Encoding) -> (Self, Option<ParseError>) {
        let mut reader = Reader { bytes, at: 0, encoding };
        let mut out = Self { elements: BTreeMap::new(), big_endian: encoding.big_endian };
        let error = reader.elements(&mut out, End::Bytes, 0).err();
        (out, error)
    }

    /// Reads the file meta information, group 0002; returns it with the offset of the data set.
    pub(crate) fn read_meta(bytes: &'a [u8]) -> Result<(Self, usize), ParseError> {
        let mut reader = Reader { bytes, at: 0, encoding: Encoding::EXPLICIT };
        let mut out = Self::default();
        while reader.peek_group() == Some(0x0002) {
            let header = reader.header()?;
            let value = reader.value(&header, 0)?;
            out.insert(header.tag, value);
        }
        Ok((out, reader.at))
    }

    fn insert(&mut self, tag: Tag, value: Option<Value<'a>>) {
        if let Some(value) = value {
            self.elements.insert(tag, value);
        }
    }

    pub(crate) fn get(&self, tag: Tag) -> Option<&Value<'a>> {
        self.elements.get(&tag)
    }

    pub(crate) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        match self.get(tag) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn items(&self, tag: Tag) -> &[Dataset<'a>] {
        match self.get(tag) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// A text without its padding; `None` when it is missing or empty.
    pub(crate) fn text(&self, tag: Tag) -> Option<String> {
        let bytes = self.bytes(tag)?;
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Whether one of the values of a text is this one.
    pub(crate) fn has_value(&self, tag: Tag, wanted: &str) -> bool {
        self.text(tag).unwrap_or_default().split('\\').any(|value| value.trim() == wanted)
    }

    /// The first unsigned 16-bit integer (US).
    pub(crate) fn short(&self, tag: Tag) -> Option<u16> {
        let bytes = *self.bytes(tag)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// All unsigned 16-bit integers (US).
    pub(crate) fn shorts(&self, tag: Tag) -> Vec<u16> {
        let (pairs, _) = self.bytes(tag).unwrap_or_default().as_chunks::<2>();
        let big = self.big_endian;
        pairs.iter().map(|b| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) }).collect()
    }

    /// The first unsigned 32-bit integer (UL).
    pub(crate) fn long(&self, tag: Tag) -> Option<u32> {
        let bytes = *self.bytes(tag)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The first 64-bit floating-point number (FD).
    pub(crate) fn double(&self, tag: Tag) -> Option<f64> {
        let bytes = *self.bytes(tag)?.first_chunk::<8>()?;
        Some(if self.big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) })
    }

    /// Exactly `N` finite decimal numbers (DS, IS); `None` when the element is missing or empty, `Err` for anything else.
    pub(crate) fn decimals<const N: usize>(&self, tag: Tag) -> Result<Option<[f64; N]>, ()> {
        let Some(text) = self.text(tag) else { return Ok(None) };
        let mut out = [0.0; N];
        let mut parts = text.split('\\');
        for slot in &mut out {
            let number = parts.next().and_then(|part| part.trim().parse::<f64>().ok());
            *slot = number.filter(|v| v.is_finite()).ok_or(())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(Some(out)) }
    }
}

/// What ends a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end of the bytes.
    Bytes,
    /// An item delimiter.
    Delimiter,
}

struct Header {
    tag: Tag,
    length: u32,
    is_sequence: bool,
    /// A sequence with the value representation UN, whose elements are encoded as implicit VR (PS3.5, 6.2.2).
    unknown: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ParseError> {
        let end = self.at.checked_add(n).ok_or(ParseError::Truncated)?;
        let out = self.bytes.get(self.at..end).ok_or(ParseError::Truncated)?;
        self.at = end;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        self.take(N)?.first_chunk().copied().ok_or(ParseError::Truncated)
    }

    fn u16(&mut self) -> Result<u16, ParseError> {
        let bytes = self.array()?;
        Ok(if self.encoding.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32, ParseError> {
        let bytes = self.array()?;
        Ok(if self.encoding.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn tag(&mut self) -> Result<Tag, ParseError> {
        Ok(Tag::from(self.u16()?) << 16 | Tag::from(self.u16()?))
    }

    fn peek_group(&self) -> Option<u16> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        Some(u16::from_le_bytes(bytes))
    }

    /// Whether only padding is left.
    fn at_end(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.len() < 8 && rest.iter().all(|b| *b == 0)
    }

    fn header(&mut self) -> Result<Header, ParseError> {
        let tag = self.tag()?;
        // Items and delimiters never have a value representation.
        if tag >> 16 == 0xFFFE || !self.encoding.explicit {
            let length = self.u32()?;
            let is_sequence = tags::is_sequence(tag) || (length == UNDEFINED && tag != tags::PIXEL_DATA);
            return Ok(Header { tag, length, is_sequence, unknown: false });
        }
        let vr = self.array::<2>()?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(ParseError::Malformed);
        }
        let long = matches!(
            &vr,
            b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
        );
        let length = if long {
            self.take(2)?;
            self.u32()?
        } else {
            u32::from(self.u16()?)
        };
        let unknown = &vr == b"UN" && (length == UNDEFINED || tags::is_sequence(tag));
        Ok(Header { tag, length, is_sequence: &vr == b"SQ" || unknown, unknown })
    }

    fn elements(&mut self, out: &mut Dataset<'a>, end: End, depth: usize) -> Result<(), ParseError> {
        loop {
            if end == End::Bytes && self.at_end() {
                return Ok(());
            }
            let header = self.header()?;
            if header.tag == tags::ITEM_END && end == End::Delimiter {
                return Ok(());
            }
            if header.tag >> 16 == 0xFFFE {
                return Err(ParseError::Malformed);
            }
            let value = self.value(&header, depth)?;
            if tags::is_read(header.tag) {
                out.insert(header.tag, value);
            }
        }
    }

    /// The value after a header; `None` for attributes that are not read.
    fn value(&mut self, header: &Header, depth: usize) -> Result<Option<Value<'a>>, ParseError> {
        let kept = tags::is_read(header.tag);
        if header.length == UNDEFINED && header.tag == tags::PIXEL_DATA {
            return Ok(Some(Value::Fragments(self.fragments()?)));
        }
        if header.length != UNDEFINED && !(header.is_sequence && kept) {
            let length = usize::try_from(header.length).map_err(|_| ParseError::Truncated)?;
            return Ok(Some(Value::Bytes(self.take(length)?)).filter(|_| kept));
        }
        if !header.is_sequence {
            return Err(ParseError::Malformed);
        }
        let outer = self.encoding;
        if header.unknown {
            self.encoding = Encoding { explicit: false, ..outer };
        }
        let items = self.sequence(header.length, kept, depth + 1);
        self.encoding = outer;
        Ok(Some(Value::Items(items?)).filter(|_| kept))
    }

    fn sequence(&mut self, length: u32, kept: bool, depth: usize) -> Result<Vec<Dataset<'a>>, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let mut items = Vec::new();
        if length != UNDEFINED {
            let length = usize::try_from(length).map_err(|_| ParseError::Truncated)?;
            let mut inner = Reader { bytes: self.take(length)?, at: 0, encoding: self.encoding };
            while !inner.at_end() {
                if inner.item(&mut items, kept, depth)? == tags::SEQUENCE_END {
                    break;
                }
            }
            return Ok(items);
        }
        while self.item(&mut items, kept, depth)? != tags::SEQUENCE_END {}
        Ok(items)
    }

    /// Reads one item or the end of the sequence; returns the tag that it found.
    fn item(&mut self, items: &mut Vec<Dataset<'a>>, kept: bool, depth: usize) -> Result<Tag, ParseError> {
        let header = self.header()?;
        if header.tag == tags::SEQUENCE_END {
            return Ok(header.tag);
        }
        if header.tag != tags::ITEM {
            return Err(ParseError::Malformed);
        }
        let mut item = Dataset { elements: BTreeMap::new(), big_endian: self.encoding.big_endian };
        if header.length == UNDEFINED {
            self.elements(&mut item, End::Delimiter, depth)?;
        } else {
            let length = usize::try_from(header.length).map_err(|_| ParseError::Truncated)?;
            let mut inner = Reader { bytes: self.take(length)?, at: 0, encoding: self.encoding };
            if kept {
                inner.elements(&mut item, End::Bytes, depth)?;
            }
        }
        if kept {
            items.push(item);
        }
        Ok(header.tag)
    }

    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, ParseError> {
        let mut out = Vec::new();
        loop {
            let header = self.header()?;
            match header.tag {
                tags::SEQUENCE_END => return Ok(out),
                tags::ITEM if header.length != UNDEFINED => {
                    out.push(self.take(usize::try_from(header.length).map_err(|_| ParseError::Truncated)?)?);
                }
                _ => return Err(ParseError::Malformed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(tag: Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(((tag >> 16) as u16).to_le_bytes());
        out.extend((tag as u16).to_le_bytes());
        out.extend(vr);
        if matches!(vr, b"SQ" | b"OW" | b"UN") {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
        out
    }

    #[test]
    fn unlisted_attributes_are_skipped() {
        let weight = explicit(0x0010_1030, b"DS", b"78.2");
        let bytes = [weight, explicit(tags::ROWS, b"US", &[7, 0])].concat();
        let (set, error) = Dataset::read(&bytes, Encoding::EXPLICIT);
        assert_eq!((set.short(tags::ROWS), set.elements.len(), error), (Some(7), 1, None));
    }

    #[test]
    fn length_beyond_the_file_returns_the_elements_before_it() {
        let mut bytes =
            [explicit(tags::MODALITY, b"CS", b"MR"), explicit(tags::PIXEL_DATA, b"OW", &[1, 2])].concat();
        let length = bytes.len() - 6;
        bytes[length..length + 4].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
        let (set, error) = Dataset::read(&bytes, Encoding::EXPLICIT);
        assert_eq!((set.text(tags::MODALITY).as_deref(), error), (Some("MR"), Some(ParseError::Truncated)));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            bytes.extend([0x00, 0x52, 0x29, 0x92, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff]);
            bytes.extend([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        assert_eq!(Dataset::read(&bytes, Encoding::EXPLICIT).1, Some(ParseError::TooDeep));
    }

    #[test]
    fn wrong_number_of_decimals_is_an_error() {
        let set = |text: &[u8]| explicit(tags::PIXEL_SPACING, b"DS", text);
        let read = |bytes: &[u8]| Dataset::read(bytes, Encoding::EXPLICIT).0.decimals::<2>(tags::PIXEL_SPACING);
        assert_eq!(read(&set(b" 0.5\\+1e0 ")), Ok(Some([0.5, 1.0])));
        assert_eq!(read(&set(b"")), Ok(None));
        for bad in [&b"0.5"[..], b"1\\2\\3", b"a\\b", b"nan\\1"] {
            assert_eq!(read(&set(bad)), Err(()));
        }
    }
}
