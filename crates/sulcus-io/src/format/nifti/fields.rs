use super::layout::{Key, Kind, Version};

/// The bytes of a header in little-endian order, whatever the byte order of the file. Fields are thus copied bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    version: Version,
    bytes: Vec<u8>,
}

impl Fields {
    /// A header in which only the identifying fields are set.
    pub(crate) fn blank(version: Version) -> Self {
        let mut fields = Self { version, bytes: vec![0; version.header_bytes()] };
        fields.set_int(Key::SizeofHdr, 0, version.header_bytes() as i64);
        fields.set_bytes(Key::Magic, version.magic(true));
        // A transfer in text mode changes these line ends.
        fields.set_bytes(Key::EolCheck, b"\r\n\x1a\n");
        fields.set_bytes(Key::Regular, b"r");
        fields
    }

    /// Reads the header at the start of `raw`; `None` if it is too short.
    pub(crate) fn read(raw: &[u8], version: Version, big_endian: bool) -> Option<Self> {
        let mut bytes = raw.get(..version.header_bytes())?.to_vec();
        if big_endian {
            for field in version.fields() {
                let size = field.kind.size();
                let all = bytes.get_mut(field.at..field.at + size * field.count).unwrap_or_default();
                all.chunks_mut(size).for_each(<[u8]>::reverse);
            }
        }
        Some(Self { version, bytes })
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// All bytes of the header, little-endian.
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of a field; empty if this version does not have it.
    pub(crate) fn bytes(&self, name: Key) -> &[u8] {
        let Some(field) = self.version.field(name) else { return &[] };
        self.bytes.get(field.at..field.at + field.kind.size() * field.count).unwrap_or_default()
    }

    fn value<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// An integer; 0 if the field does not exist or is not an integer.
    pub(crate) fn int(&self, name: Key, index: usize) -> i64 {
        let Some(field) = self.version.field(name).filter(|field| index < field.count) else { return 0 };
        let at = field.at + index * field.kind.size();
        match field.kind {
            Kind::Bytes => i64::from(u8::from_le_bytes(self.value(at))),
            Kind::I16 => i64::from(i16::from_le_bytes(self.value(at))),
            Kind::I32 => i64::from(i32::from_le_bytes(self.value(at))),
            Kind::I64 => i64::from_le_bytes(self.value(at)),
            Kind::F32 | Kind::F64 => 0,
        }
    }

    /// A number; integers are converted.
    pub(crate) fn float(&self, name: Key, index: usize) -> f64 {
        let Some(field) = self.version.field(name).filter(|field| index < field.count) else { return 0.0 };
        let at = field.at + index * field.kind.size();
        match field.kind {
            Kind::F32 => f64::from(f32::from_le_bytes(self.value(at))),
            Kind::F64 => f64::from_le_bytes(self.value(at)),
            _ => self.int(name, index) as f64,
        }
    }

    /// The first `N` numbers of a field.
    pub(crate) fn floats<const N: usize>(&self, name: Key) -> [f64; N] {
        std::array::from_fn(|i| self.float(name, i))
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..at + N) {
            place.copy_from_slice(&value);
        }
    }

    /// Sets a number; returns false if this version cannot represent it.
    pub(crate) fn set_int(&mut self, name: Key, index: usize, value: i64) -> bool {
        let Some(field) = self.version.field(name).filter(|field| index < field.count) else { return false };
        let at = field.at + index * field.kind.size();
        match field.kind {
            Kind::Bytes => u8::try_from(value).map(|v| self.put(at, v.to_le_bytes())).is_ok(),
            Kind::I16 => i16::try_from(value).map(|v| self.put(at, v.to_le_bytes())).is_ok(),
            Kind::I32 => i32::try_from(value).map(|v| self.put(at, v.to_le_bytes())).is_ok(),
            Kind::I64 => {
                self.put(at, value.to_le_bytes());
                true
            }
            Kind::F32 | Kind::F64 => {
                self.set_floats(name, index, &[value as f64]);
                true
            }
        }
    }

    /// Sets numbers, starting at the index `first`.
    pub(crate) fn set_floats(&mut self, name: Key, first: usize, values: &[f64]) {
        let Some(field) = self.version.field(name) else { return };
        for (index, value) in (first..field.count).zip(values) {
            let at = field.at + index * field.kind.size();
            match field.kind {
                Kind::F32 => self.put(at, (*value as f32).to_le_bytes()),
                Kind::F64 => self.put(at, value.to_le_bytes()),
                _ => {}
            }
        }
    }

    /// Sets bytes or a text, truncated or padded with zeros to the length of the field.
    pub(crate) fn set_bytes(&mut self, name: Key, value: &[u8]) {
        let Some(field) = self.version.field(name) else { return };
        let place = self.bytes.get_mut(field.at..field.at + field.kind.size() * field.count).unwrap_or_default();
        place.fill(0);
        place.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    }

    /// Copies fields: bit for bit from a header of the same version, otherwise by value.
    pub(crate) fn copy(&mut self, other: &Self, names: &[Key]) {
        for name in names {
            let (Some(field), Some(from)) = (self.version.field(*name), other.version.field(*name)) else {
                continue;
            };
            if field.kind == from.kind {
                self.set_bytes(*name, other.bytes(*name));
            } else if matches!(field.kind, Kind::F32 | Kind::F64) {
                let values: [f64; 12] = other.floats(*name);
                self.set_floats(*name, 0, values.get(..from.count).unwrap_or_default());
            } else {
                (0..from.count).for_each(|i| {
                    self.set_int(*name, i, other.int(*name, i));
                });
            }
        }
    }
}
