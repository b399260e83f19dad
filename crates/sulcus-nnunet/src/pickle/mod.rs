//! A reader of Python pickles that executes nothing.
//!
//! A pickle is a program for a stack machine. Python's `GLOBAL` and `REDUCE` instructions import any function and call it, which
//! makes a pickle from another person as dangerous as a program from that person. Here a name that a pickle imports is looked up in
//! a fixed list ([`Global`]): the few names that a checkpoint of nnU-Net contains. Each has a meaning as data; nothing is called, and
//! every other name is an error.
//!
//! Memory: an instruction makes at most one value of a fixed size, and lists only take values from the stack, so the memory is
//! proportional to the length of the pickle. Values refer to each other by index; neither reading nor dropping them recurses.

mod global;
mod machine;
mod value;

pub(crate) use global::{ElementType, Global};
pub(crate) use value::{Pickle, Tensor, Value, ValueId};

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// It imports a name that checkpoints of nnU-Net do not need.
    #[error(
        "its pickle refers to `{name}`, which is not among the names of a checkpoint's data; nothing of it was executed"
    )]
    ForbiddenName {
        /// Module and name.
        name: String,
    },
    /// It calls something with arguments of another kind than `torch.save` writes.
    #[error("its pickle calls `{name}` with unexpected arguments; nothing of it was executed")]
    UnexpectedCall {
        /// Module and name, or the kind of value that is called.
        name: String,
    },
    /// It has an instruction that `torch.save` does not write.
    #[error("its pickle has instruction 0x{code:02x} at byte {offset}, which torch.save() does not write")]
    UnknownInstruction {
        /// The instruction.
        code: u8,
        /// Its position.
        offset: usize,
    },
    /// It is truncated or contradicts itself.
    #[error("its pickle is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where reading failed.
        offset: usize,
        /// How.
        reason: &'static str,
    },
    /// It is longer than the data of any checkpoint.
    #[error("its pickle has {bytes} bytes, at most {most} are read")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The maximum.
        most: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pickle of protocol 2 with these instructions.
    fn read(instructions: &[u8]) -> Result<Pickle, PickleError> {
        Pickle::read([&[0x80, 2], instructions, b"."].concat())
    }

    #[test]
    fn values_are_read() {
        // {"a": [1, -2, 2.5, True, None], "b": ("x",)}
        let pickle = read(b"}(X\x01\x00\x00\x00a](K\x01J\xfe\xff\xff\xffG\x40\x04\0\0\0\0\0\0\x88NeX\x01\x00\x00\x00bX\x01\x00\x00\x00x\x85u")
            .unwrap();
        let list = pickle.entry(pickle.top(), "a").unwrap();
        let items: Vec<&Value> = pickle.sequence(list).unwrap().iter().map(|id| pickle.value(*id)).collect();
        assert_eq!(items, [&Value::Int(1), &Value::Int(-2), &Value::Float(2.5), &Value::Bool(true), &Value::None]);
        let tuple = pickle.entry(pickle.top(), "b").unwrap();
        assert_eq!(pickle.text(pickle.sequence(tuple).unwrap()[0]), Some("x"));
        assert_eq!(pickle.entries(pickle.top()).unwrap().len(), 2);
    }

    #[test]
    fn numbers_of_numpy_are_read() {
        // numpy.core.multiarray.scalar(numpy.dtype("i8", False, True), _codecs.encode("\x02\0\0\0\0\0\0\0", "latin1"))
        let mut instructions =
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00i8\x89\x88\x87R".to_vec();
        instructions
            .extend(b"c_codecs\nencode\nX\x08\x00\x00\x00\x02\0\0\0\0\0\0\0X\x06\x00\x00\x00latin1\x86R\x86R");
        let pickle = read(&instructions).unwrap();
        assert_eq!(pickle.int(pickle.top()), Some(2));
    }

    #[test]
    fn shared_values_are_not_copied() {
        // Each list holds the one before it a hundred times: written out, 100^60 values.
        let mut instructions = b"]q\x00".to_vec();
        for level in 0..60_u8 {
            instructions.push(b']');
            instructions.push(b'(');
            (0..100).for_each(|_| instructions.extend([b'h', level]));
            instructions.extend([b'e', b'q', level + 1]);
        }
        let length = instructions.len();
        assert!(read(&instructions).unwrap().size() < 2 * length);
    }

    #[test]
    fn depth_is_not_limited_by_the_stack_of_the_thread() {
        let deep = [vec![b']'; 500_000], vec![b'a'; 499_999]].concat();
        drop(read(&deep).unwrap());
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for long in [
            b"X\xff\xff\xff\xff".as_slice(),
            b"B\xff\xff\xff\x7f",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x8b\xff\xff\xff\xff",
        ] {
            let error = read(long).unwrap_err();
            assert!(matches!(error, PickleError::Damaged { reason: "it is cut short", .. }), "{error}");
        }
    }

    #[test]
    fn too_many_values_are_refused() {
        assert!(read(&vec![b'N'; 1 << 19]).is_ok());
        assert!(matches!(read(&vec![b'N'; (1 << 20) + 1]), Err(PickleError::Damaged { .. })));
        let long = vec![b'N'; Pickle::MAX_BYTES as usize + 1];
        assert!(matches!(Pickle::read(long), Err(PickleError::TooLong { .. })));
    }

    #[test]
    fn instructions_and_calls_that_torch_does_not_write_are_refused() {
        let message = |instructions: &[u8]| read(instructions).unwrap_err().to_string();
        insta::assert_snapshot!(message(b"S'touch canary'\n"), @"its pickle has instruction 0x53 at byte 2, which torch.save() does not write");
        insta::assert_snapshot!(message(b"(ios\nsystem\n"), @"its pickle has instruction 0x69 at byte 3, which torch.save() does not write");
        insta::assert_snapshot!(message(b"cbuiltins\neval\n"), @"its pickle refers to `builtins.eval`, which is not among the names of a checkpoint's data; nothing of it was executed");
        insta::assert_snapshot!(message(b"\x8c\x02os\x8c\x06system\x93"), @"its pickle refers to `os.system`, which is not among the names of a checkpoint's data; nothing of it was executed");
        insta::assert_snapshot!(message(b"K\x01)R"), @"its pickle calls `a value` with unexpected arguments; nothing of it was executed");
        insta::assert_snapshot!(message(b"ccollections\nOrderedDict\nK\x01\x85R"), @"its pickle calls `OrderedDict` with unexpected arguments; nothing of it was executed");
        insta::assert_snapshot!(message(b"K\x01}b"), @"its pickle calls `__setstate__` with unexpected arguments; nothing of it was executed");
        insta::assert_snapshot!(message(b"K\x01Q"), @"its pickle is damaged at byte 5: it refers to outside data in an unknown way");
        insta::assert_snapshot!(message(b"0"), @"its pickle is damaged at byte 3: it takes a value from an empty stack");
        insta::assert_snapshot!(message(b"(0"), @"its pickle is damaged at byte 4: it takes a value from an empty stack");
        insta::assert_snapshot!(message(b"h\x07"), @"its pickle is damaged at byte 4: it recalls a value that it did not store");
        insta::assert_snapshot!(message(b"K\x01K\x02a"), @"its pickle is damaged at byte 7: it appends to a value that is not a list");
        insta::assert_snapshot!(message(b"}(K\x01u"), @"its pickle is damaged at byte 7: a key has no value");
    }
}
