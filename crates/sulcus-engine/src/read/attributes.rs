//! The attributes of a node. An attribute that is not read is refused, so that nothing a graph says is ignored.

use std::cell::RefCell;

use sulcus_onnx::messages::{AttributeProto, AttributeType, NodeProto};

use crate::error::NodeProblem;

pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
    read: RefCell<Vec<&'static str>>,
}

pub(super) fn attribute_problem(name: &str, reason: impl Into<String>) -> NodeProblem {
    NodeProblem::Attribute { name: name.into(), reason: reason.into() }
}

impl<'a> Attributes<'a> {
    pub(super) fn new(node: &'a NodeProto) -> Self {
        Self { node, read: RefCell::new(Vec::new()) }
    }

    fn find(&self, name: &'static str, kind: AttributeType) -> Result<Option<&'a AttributeProto>, NodeProblem> {
        self.read.borrow_mut().push(name);
        match self.node.attribute.iter().find(|attribute| attribute.name == name) {
            Some(attribute) if attribute.r#type != kind as i32 => {
                Err(attribute_problem(name, format!("expected a value of type {kind:?}")))
            }
            found => Ok(found),
        }
    }

    pub(super) fn int(&self, name: &'static str, default: i64) -> Result<i64, NodeProblem> {
        Ok(self.find(name, AttributeType::Int)?.map_or(default, |attribute| attribute.i))
    }

    /// A finite number.
    pub(super) fn float(&self, name: &'static str, default: f32) -> Result<f32, NodeProblem> {
        let found = self.find(name, AttributeType::Float)?.map_or(default, |attribute| attribute.f);
        if found.is_finite() { Ok(found) } else { Err(attribute_problem(name, format!("it is {found}"))) }
    }

    pub(super) fn text(&self, name: &'static str, default: &'static str) -> Result<&'a str, NodeProblem> {
        match self.find(name, AttributeType::String)? {
            Some(attribute) => {
                std::str::from_utf8(&attribute.s).map_err(|_| attribute_problem(name, "it is not UTF-8"))
            }
            None => Ok(default),
        }
    }

    pub(super) fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>, NodeProblem> {
        Ok(self.find(name, AttributeType::Ints)?.map(|attribute| attribute.ints.as_slice()))
    }

    /// One number per spatial axis, as `[D, H, W]` with `default` along D for a 2-D graph.
    pub(super) fn spatial(
        &self,
        name: &'static str,
        axes: usize,
        default: usize,
    ) -> Result<Option<[usize; 3]>, NodeProblem> {
        let Some(found) = self.ints(name)? else { return Ok(None) };
        spatial(found, axes, default).map(Some).ok_or_else(|| {
            attribute_problem(name, format!("it is {found:?}, expected {axes} numbers from 0 to 65535"))
        })
    }

    /// Requires the only supported value of an attribute that may be absent.
    pub(super) fn require_int(&self, name: &'static str, supported: i64) -> Result<(), NodeProblem> {
        match self.int(name, supported)? {
            found if found == supported => Ok(()),
            found => Err(attribute_problem(name, format!("it is {found}, only {supported} is supported"))),
        }
    }

    /// Requires that all numbers of a list that may be absent are `supported`.
    pub(super) fn require_ints(&self, name: &'static str, supported: i64) -> Result<(), NodeProblem> {
        match self.ints(name)? {
            Some(found) if found.iter().any(|value| *value != supported) => {
                Err(attribute_problem(name, format!("it is {found:?}, only {supported} is supported")))
            }
            _ => Ok(()),
        }
    }

    /// Requires one of the supported texts; returns it.
    pub(super) fn require_text(
        &self,
        name: &'static str,
        default: &'static str,
        supported: &[&str],
    ) -> Result<&'a str, NodeProblem> {
        match self.text(name, default)? {
            found if supported.contains(&found) => Ok(found),
            found => Err(attribute_problem(name, format!("it is `{found}`, supported: {}", supported.join(", ")))),
        }
    }

    /// Refuses attributes that were not read, and those that occur twice.
    pub(super) fn finish(self) -> Result<(), NodeProblem> {
        let read = self.read.into_inner();
        for (index, attribute) in self.node.attribute.iter().enumerate() {
            if !read.contains(&attribute.name.as_str()) {
                return Err(attribute_problem(&attribute.name, "the engine does not know it"));
            }
            if self.node.attribute.iter().skip(index + 1).any(|other| other.name == attribute.name) {
                return Err(attribute_problem(&attribute.name, "it occurs twice"));
            }
        }
        Ok(())
    }
}

/// The numbers of a list along D, H and W. They are small, so that products of a few of them do not overflow.
pub(super) fn spatial(found: &[i64], axes: usize, default: usize) -> Option<[usize; 3]> {
    let number = |value: &i64| u16::try_from(*value).ok().map(usize::from);
    match (axes, found) {
        (2, [h, w]) => Some([default, number(h)?, number(w)?]),
        (3, [d, h, w]) => Some([number(d)?, number(h)?, number(w)?]),
        _ => None,
    }
}
