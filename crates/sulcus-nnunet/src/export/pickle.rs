//! Writes pickles of protocol 2: only data, as `torch.save` writes it.

use serde_json::Value;

/// A pickle that grows.
pub(super) struct PickleWriter {
    bytes: Vec<u8>,
}

impl PickleWriter {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0x80, 2] }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }

    /// An empty dictionary, whose items are written between this and [`Self::end_items`].
    pub(super) fn begin_dict(&mut self) {
        self.bytes.extend(b"}(");
    }

    pub(super) fn begin_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")R(");
    }

    pub(super) fn end_items(&mut self) {
        self.bytes.push(b'u');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.bytes());
    }

    pub(super) fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(value) => {
                self.bytes.push(b'J');
                self.bytes.extend(value.to_le_bytes());
            }
            Err(_) => {
                self.bytes.extend([0x8a, 8]);
                self.bytes.extend(value.to_le_bytes());
            }
        }
    }

    pub(super) fn ints(&mut self, values: impl IntoIterator<Item = usize>) {
        self.bytes.push(b'(');
        values.into_iter().for_each(|value| self.int(i64::try_from(value).unwrap_or(i64::MAX)));
        self.bytes.push(b't');
    }

    /// A tensor that is all of the storage `key`.
    pub(super) fn tensor(&mut self, key: usize, storage: &str, shape: &[usize]) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        // The arguments: storage, offset, shape, strides, whether it has a gradient, hooks.
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&key.to_string());
        self.text("cpu");
        self.int(shape.iter().product::<usize>() as i64);
        self.bytes.extend(b"tQ");
        self.int(0);
        self.ints(shape.iter().copied());
        let strides = (1..=shape.len()).map(|axis| shape[axis..].iter().product());
        self.ints(strides);
        self.bytes.push(0x89);
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
    }

    pub(super) fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(b'N'),
            Value::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Value::Number(number) => match number.as_i64() {
                Some(value) => self.int(value),
                None => {
                    self.bytes.push(b'G');
                    self.bytes.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
                }
            },
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.bytes.extend(b"](");
                items.iter().for_each(|item| self.json(item));
                self.bytes.push(b'e');
            }
            Value::Object(items) => {
                self.begin_dict();
                for (key, value) in items {
                    self.text(key);
                    self.json(value);
                }
                self.end_items();
            }
        }
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend(format!("c{module}\n{name}\n").bytes());
    }
}
