//! The elements of a data set (DICOM PS3.5, chapter 7), as slices of the file's bytes.
//!
//! Nothing is allocated by what a length field says, only by what is there. That is why the reader is ours: dicom-rs,
//! which writes our files, makes room for a value (up to 4 GiB) before it looks whether the file holds one.

use std::collections::BTreeMap;

use super::tags::{self, Tag};

/// How deep sequences may lie in each other; what is read here lies at depth 3.
const MAX_DEPTH: usize = 32;
/// A length that is found out by reading on to a delimiter.
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

/// Why a data set ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A value reaches past the end of what holds it.
    Short,
    /// Bytes that are no element.
    Garbled,
    /// Sequences in sequences in sequences.
    Deep,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<Dataset<'a>>),
    /// Compressed pixels: the offset table first.
    Fragments(Vec<&'a [u8]>),
}

/// Those elements of a data set that [`tags`] lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dataset<'a> {
    elements: BTreeMap<Tag, Value<'a>>,
    big_endian: bool,
}

impl<'a> Dataset<'a> {
    /// Reads `bytes` to their end. What was read before a fault is there as well: it may say which series a damaged
    /// file belongs to.
    pub(crate) fn read(bytes: &'a [u8], encoding: Encoding) -> (Self, Option<Fault>) {
        let mut reader = Reader { bytes, at: 0, encoding };
        let mut out = Self { elements: BTreeMap::new(), big_endian: encoding.big_endian };
        let fault = reader.elements(&mut out, End::Bytes, 0).err();
        (out, fault)
    }

    /// Reads the file meta information, group 0002, and says where the data set begins.
    pub(crate) fn read_meta(bytes: &'a [u8]) -> Result<(Self, usize), Fault> {
        let mut reader = Reader { bytes, at: 0, encoding: Encoding::EXPLICIT };
        let mut out = Self::default();
        while reader.peek_group() == Some(0x0002) {
            let header = reader.header()?;
            let value = reader.value(&header, 0)?;
            out.keep(header.tag, value);
        }
        Ok((out, reader.at))
    }

    fn keep(&mut self, tag: Tag, value: Option<Value<'a>>) {
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

    /// A text without its padding; `None` where there is none or it is empty.
    pub(crate) fn text(&self, tag: Tag) -> Option<String> {
        let bytes = self.bytes(tag)?;
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A whole number of 16 bits (US).
    pub(crate) fn short(&self, tag: Tag) -> Option<u16> {
        let bytes = *self.bytes(tag)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// Whole numbers of 16 bits.
    pub(crate) fn shorts(&self, tag: Tag) -> Vec<u16> {
        let (pairs, _) = self.bytes(tag).unwrap_or_default().as_chunks::<2>();
        let big = self.big_endian;
        pairs.iter().map(|b| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) }).collect()
    }

    /// A whole number of 32 bits (UL).
    pub(crate) fn long(&self, tag: Tag) -> Option<u32> {
        let bytes = *self.bytes(tag)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A binary number of 64 bits (FD).
    pub(crate) fn double(&self, tag: Tag) -> Option<f64> {
        let bytes = *self.bytes(tag)?.first_chunk::<8>()?;
        Some(if self.big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) })
    }

    /// Exactly `N` decimal numbers (DS, IS), or `None` where there are others or none; `Err` where it is no number.
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

/// Where a data set ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the bytes.
    Bytes,
    /// With an item delimiter.
    Delimiter,
}

struct Header {
    tag: Tag,
    length: u32,
    is_sequence: bool,
    /// A sequence of unknown representation is encoded without representations (PS3.5, 6.2.2).
    unknown: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(n).ok_or(Fault::Short)?;
        let out = self.bytes.get(self.at..end).ok_or(Fault::Short)?;
        self.at = end;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.first_chunk().copied().ok_or(Fault::Short)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        let bytes = self.array()?;
        Ok(if self.encoding.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.array()?;
        Ok(if self.encoding.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn tag(&mut self) -> Result<Tag, Fault> {
        Ok(Tag::from(self.u16()?) << 16 | Tag::from(self.u16()?))
    }

    fn peek_group(&self) -> Option<u16> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        Some(u16::from_le_bytes(bytes))
    }

    /// Only padding is left.
    fn at_end(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.len() < 8 && rest.iter().all(|b| *b == 0)
    }

    fn header(&mut self) -> Result<Header, Fault> {
        let tag = self.tag()?;
        // Items and delimiters have no value representation.
        if tag >> 16 == 0xFFFE || !self.encoding.explicit {
            let length = self.u32()?;
            let is_sequence = tags::is_sequence(tag) || (length == UNDEFINED && tag != tags::PIXELS);
            return Ok(Header { tag, length, is_sequence, unknown: false });
        }
        let vr = self.array::<2>()?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(Fault::Garbled);
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

    fn elements(&mut self, out: &mut Dataset<'a>, end: End, depth: usize) -> Result<(), Fault> {
        loop {
            if end == End::Bytes && self.at_end() {
                return Ok(());
            }
            let header = self.header()?;
            if header.tag == tags::ITEM_END && end == End::Delimiter {
                return Ok(());
            }
            if header.tag >> 16 == 0xFFFE {
                return Err(Fault::Garbled);
            }
            let value = self.value(&header, depth)?;
            if tags::is_kept(header.tag) {
                out.keep(header.tag, value);
            }
        }
    }

    /// The value after a header; `None` where nobody asks for it.
    fn value(&mut self, header: &Header, depth: usize) -> Result<Option<Value<'a>>, Fault> {
        let kept = tags::is_kept(header.tag);
        if header.length == UNDEFINED && header.tag == tags::PIXELS {
            return Ok(Some(Value::Fragments(self.fragments()?)));
        }
        if header.length != UNDEFINED && !(header.is_sequence && kept) {
            let length = usize::try_from(header.length).map_err(|_| Fault::Short)?;
            return Ok(Some(Value::Bytes(self.take(length)?)).filter(|_| kept));
        }
        if !header.is_sequence {
            return Err(Fault::Garbled);
        }
        let outer = self.encoding;
        if header.unknown {
            self.encoding = Encoding { explicit: false, ..outer };
        }
        let items = self.sequence(header.length, kept, depth + 1);
        self.encoding = outer;
        Ok(Some(Value::Items(items?)).filter(|_| kept))
    }

    fn sequence(&mut self, length: u32, kept: bool, depth: usize) -> Result<Vec<Dataset<'a>>, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Deep);
        }
        let mut items = Vec::new();
        if length != UNDEFINED {
            let length = usize::try_from(length).map_err(|_| Fault::Short)?;
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

    /// Reads one item, or the end of the sequence; says which.
    fn item(&mut self, items: &mut Vec<Dataset<'a>>, kept: bool, depth: usize) -> Result<Tag, Fault> {
        let header = self.header()?;
        if header.tag == tags::SEQUENCE_END {
            return Ok(header.tag);
        }
        if header.tag != tags::ITEM {
            return Err(Fault::Garbled);
        }
        let mut item = Dataset { elements: BTreeMap::new(), big_endian: self.encoding.big_endian };
        if header.length == UNDEFINED {
            self.elements(&mut item, End::Delimiter, depth)?;
        } else {
            let length = usize::try_from(header.length).map_err(|_| Fault::Short)?;
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

    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, Fault> {
        let mut out = Vec::new();
        loop {
            let header = self.header()?;
            match header.tag {
                tags::SEQUENCE_END => return Ok(out),
                tags::ITEM if header.length != UNDEFINED => {
                    out.push(self.take(usize::try_from(header.length).map_err(|_| Fault::Short)?)?);
                }
                _ => return Err(Fault::Garbled),
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
    fn what_nobody_asked_for_is_not_kept() {
        let weight = explicit(0x0010_1030, b"DS", b"78.2");
        let bytes = [weight, explicit(tags::ROWS, b"US", &[7, 0])].concat();
        let (set, fault) = Dataset::read(&bytes, Encoding::EXPLICIT);
        assert_eq!((set.short(tags::ROWS), set.elements.len(), fault), (Some(7), 1, None));
    }

    #[test]
    fn a_length_beyond_the_file_allocates_nothing_and_keeps_what_came_before() {
        let mut bytes = [explicit(tags::MODALITY, b"CS", b"MR"), explicit(tags::PIXELS, b"OW", &[1, 2])].concat();
        let length = bytes.len() - 6;
        bytes[length..length + 4].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
        let (set, fault) = Dataset::read(&bytes, Encoding::EXPLICIT);
        assert_eq!((set.text(tags::MODALITY).as_deref(), fault), (Some("MR"), Some(Fault::Short)));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            bytes.extend([0x00, 0x52, 0x29, 0x92, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff]);
            bytes.extend([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        assert_eq!(Dataset::read(&bytes, Encoding::EXPLICIT).1, Some(Fault::Deep));
    }

    #[test]
    fn decimals_are_as_many_as_asked_for_or_an_error() {
        let set = |text: &[u8]| explicit(tags::PIXEL_SPACING, b"DS", text);
        let read = |bytes: &[u8]| Dataset::read(bytes, Encoding::EXPLICIT).0.decimals::<2>(tags::PIXEL_SPACING);
        assert_eq!(read(&set(b" 0.5\\+1e0 ")), Ok(Some([0.5, 1.0])));
        assert_eq!(read(&set(b"")), Ok(None));
        for bad in [&b"0.5"[..], b"1\\2\\3", b"a\\b", b"nan\\1"] {
            assert_eq!(read(&set(bad)), Err(()));
        }
    }
}
