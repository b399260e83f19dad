//! The stack machine. Instructions and their arguments follow the documentation of Python's `pickletools`.

use std::collections::HashMap;

use super::{Global, Pickle, PickleError, Tensor, Value, ValueId};

/// The most values that are read. A checkpoint of nnU-Net has less than 100,000.
const MAX_VALUES: usize = 1 << 20;

impl Pickle {
    /// The longest pickle that is read. Those of nnU-Net have less than 3 MB; the weights are in other files.
    pub(crate) const MAX_BYTES: u64 = 16 << 20;

    /// Reads a pickle.
    ///
    /// # Errors
    /// [`PickleError`].
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, PickleError> {
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(PickleError::TooLong { bytes: bytes.len() as u64, most: Self::MAX_BYTES });
        }
        run(bytes)
    }
}

/// Reads the instructions up to `STOP`.
fn run(bytes: Vec<u8>) -> Result<Pickle, PickleError> {
    let mut machine = Machine {
        bytes: &bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let top = loop {
        if let Some(top) = machine.step()? {
            break top;
        }
    };
    let values = machine.values;
    Ok(Pickle { bytes, values, top })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<ValueId>,
    /// The heights of the stack at each `MARK`.
    marks: Vec<usize>,
    memo: HashMap<u32, ValueId>,
}

impl<'a> Machine<'a> {
    /// Carries out one instruction. Returns the result at `STOP`.
    fn step(&mut self) -> Result<Option<ValueId>, PickleError> {
        let offset = self.at;
        let code = self.byte()?;
        match code {
            // PROTO, FRAME
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            // STOP
            b'.' => return self.pop().map(Some),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            // BININT, BININT1, BININT2
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            // LONG1, LONG4
            0x8a => {
                let length = usize::from(self.byte()?);
                self.long(length)?;
            }
            0x8b => {
                let length = self.length4()?;
                self.long(length)?;
            }
            // BINFLOAT
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value))?;
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => {
                let length = usize::from(self.byte()?);
                self.text(length)?;
            }
            b'X' => {
                let length = self.length4()?;
                self.text(length)?;
            }
            0x8d => {
                let length = self.length8()?;
                self.text(length)?;
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => {
                let length = usize::from(self.byte()?);
                self.binary(length)?;
            }
            b'B' => {
                let length = self.length4()?;
                self.binary(length)?;
            }
            0x8e => {
                let length = self.length8()?;
                self.binary(length)?;
            }
            // Empty and filled collections.
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x8f => self.push(Value::Opaque)?,
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.above_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
                let start = start.ok_or_else(|| self.damaged("a tuple needs more values than there are"))?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items))?;
            }
            // FROZENSET, ADDITEMS of a set
            0x91 => {
                self.above_mark()?;
                self.push(Value::Opaque)?;
            }
            0x90 => {
                self.above_mark()?;
                self.top()?;
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.above_mark()?;
                self.append(items)?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.above_mark()?;
                self.set_items(&items)?;
            }
            // POP, POP_MARK, DUP
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let key = u32::from(self.byte()?);
                self.remember(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).map_err(|_| self.damaged("its memo is full"))?;
                self.remember(key)?;
            }
            // BINGET, LONG_BINGET
            b'h' => {
                let key = u32::from(self.byte()?);
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.text_of(module), self.text_of(name)) else {
                    return Err(self.damaged("a name is not a text"));
                };
                self.global(module, name)?;
            }
            // BINPERSID, REDUCE, NEWOBJ, BUILD
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(PickleError::UnknownInstruction { code, offset }),
        }
        Ok(None)
    }

    /// The tuple ('storage', type, key, location, number of elements).
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let parts = match self.get(id) {
            Value::Tuple(parts) => <[ValueId; 5]>::try_from(parts.as_slice()).ok(),
            _ => None,
        };
        let storage = parts.and_then(|[tag, kind, key, _, elements]| {
            let Value::Global(Global::Storage(kind)) = *self.get(kind) else { return None };
            let Value::Int(elements) = *self.get(elements) else { return None };
            let is_storage = self.text_of(tag) == Some("storage") && self.text_of(key).is_some();
            is_storage.then_some(Value::Storage { kind, key, elements })
        });
        let storage = storage.ok_or_else(|| self.damaged("it refers to outside data in an unknown way"))?;
        self.push(storage)
    }

    /// A call. Each name of the list stands for a value that is made from the arguments.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(function) = *self.get(function) else {
            return Err(PickleError::UnexpectedCall { name: "a value".to_owned() });
        };
        let unexpected = || PickleError::UnexpectedCall { name: format!("{function:?}") };
        let Value::Tuple(arguments) = self.get(arguments) else { return Err(unexpected()) };
        let made = match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::RebuildTensor, [storage, offset, size, stride, ..]) => {
                let Value::Int(offset) = *self.get(*offset) else { return Err(unexpected()) };
                Value::Tensor(Tensor { storage: *storage, offset, size: *size, stride: *stride })
            }
            (Global::RebuildParameter, [tensor, ..]) => match self.get(*tensor) {
                Value::Tensor(tensor) => Value::Tensor(*tensor),
                _ => return Err(unexpected()),
            },
            (Global::NumpyDType, [name, ..]) => Value::NumpyDType(*name),
            (Global::NumpyScalar, [dtype, bytes]) => self.scalar(*dtype, *bytes),
            (Global::Encode, [text, ..]) => Value::Latin1(*text),
            (
                Global::Encode | Global::Device | Global::Size | Global::Collection | Global::NumpyReconstruct,
                _,
            ) => Value::Opaque,
            _ => return Err(unexpected()),
        };
        self.push(made)
    }

    /// A state. Dictionaries of PyTorch have one (`_metadata`), and NumPy's types and arrays; none is needed.
    fn build(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        let top = self.top()?;
        match self.get(top) {
            Value::Dict(_) | Value::NumpyDType(_) | Value::Opaque => Ok(()),
            _ => Err(PickleError::UnexpectedCall { name: "__setstate__".to_owned() }),
        }
    }

    /// A number of NumPy, little-endian as on every machine that runs nnU-Net.
    fn scalar(&self, dtype: ValueId, bytes: ValueId) -> Value {
        let Value::NumpyDType(name) = *self.get(dtype) else { return Value::Opaque };
        let mut raw = [0_u8; 8];
        let length = match self.get(bytes) {
            Value::Bytes(range) => {
                let found = self.bytes.get(range.clone()).unwrap_or_default();
                raw.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
                found.len()
            }
            Value::Latin1(text) => {
                let mut length = 0;
                for (i, c) in self.text_of(*text).unwrap_or_default().chars().take(raw.len() + 1).enumerate() {
                    let (Some(byte), Ok(value)) = (raw.get_mut(i), u8::try_from(c)) else { return Value::Opaque };
                    *byte = value;
                    length = i + 1;
                }
                length
            }
            _ => return Value::Opaque,
        };
        let [a, b, c, d, ..] = raw;
        match (self.text_of(name).unwrap_or_default(), length) {
            ("f8", 8) => Value::Float(f64::from_le_bytes(raw)),
            ("f4", 4) => Value::Float(f32::from_le_bytes([a, b, c, d]).into()),
            ("i8", 8) => Value::Int(i64::from_le_bytes(raw)),
            ("i4", 4) => Value::Int(i32::from_le_bytes([a, b, c, d]).into()),
            ("i2", 2) => Value::Int(i16::from_le_bytes([a, b]).into()),
            ("i1", 1) => Value::Int(i8::from_le_bytes([a]).into()),
            ("u4", 4) => Value::Int(u32::from_le_bytes([a, b, c, d]).into()),
            ("u2", 2) => Value::Int(u16::from_le_bytes([a, b]).into()),
            ("u1", 1) => Value::Int(a.into()),
            ("b1", 1) => Value::Bool(a != 0),
            _ => Value::Opaque,
        }
    }

    fn append(&mut self, items: Vec<ValueId>) -> Result<(), PickleError> {
        let top = self.top()?;
        match self.values.get_mut(top.0 as usize) {
            Some(Value::List(list)) => list.extend(items),
            // A byte array or an array of NumPy.
            Some(Value::Opaque) => {}
            _ => return Err(self.damaged("it appends to a value that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[ValueId]) -> Result<(), PickleError> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.damaged("a key has no value"));
        }
        match self.values.get_mut(top.0 as usize) {
            Some(Value::Dict(entries)) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err(self.damaged("it sets an item of a value that is not a dictionary")),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let global = Global::find(module, name)?;
        self.push(Value::Global(global))
    }

    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let value = if bytes.len() <= 8 {
            let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
            let mut wide = [sign; 8];
            wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Opaque
        };
        self.push(value)
    }

    fn text(&mut self, length: usize) -> Result<(), PickleError> {
        let start = self.at;
        let bytes = self.take(length)?;
        if std::str::from_utf8(bytes).is_err() {
            return Err(self.damaged("a text is not UTF-8"));
        }
        self.push(Value::Text(start..start + length))
    }

    fn binary(&mut self, length: usize) -> Result<(), PickleError> {
        let start = self.at;
        self.take(length)?;
        self.push(Value::Bytes(start..start + length))
    }

    fn remember(&mut self, key: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), PickleError> {
        let value = self.memo.get(&key).copied();
        let value = value.ok_or_else(|| self.damaged("it recalls a value that it did not store"))?;
        self.stack.push(value);
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(self.damaged("it has more values than any checkpoint"));
        }
        let index = u32::try_from(self.values.len()).map_err(|_| self.damaged("it has too many values"))?;
        self.values.push(value);
        self.stack.push(ValueId(index));
        Ok(())
    }

    /// Values below the last mark belong to it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<ValueId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.damaged("it takes a value from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| self.damaged("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<ValueId, PickleError> {
        let top = self.stack.get(self.floor()..).and_then(<[ValueId]>::last);
        top.copied().ok_or_else(|| self.damaged("it uses the top of an empty stack"))
    }

    fn above_mark(&mut self) -> Result<Vec<ValueId>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("it closes a group that it did not open"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn get(&self, id: ValueId) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    fn text_of(&self, id: ValueId) -> Option<&'a str> {
        let Value::Text(range) = self.get(id) else { return None };
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| self.damaged("a name has no end"))?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.damaged("a name is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.damaged("it is cut short"))?;
        self.at += length;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn length4(&mut self) -> Result<usize, PickleError> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.damaged("a length is beyond its end"))
    }

    fn length8(&mut self) -> Result<usize, PickleError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.damaged("a length is beyond its end"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let damaged = self.damaged("it is cut short");
        self.take(N)?.try_into().map_err(|_| damaged)
    }

    fn damaged(&self, reason: &'static str) -> PickleError {
        PickleError::Damaged { offset: self.at, reason }
    }
}
