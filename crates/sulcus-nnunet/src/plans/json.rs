use serde_json::{Map, Value};

use super::PlansError;

/// A JSON value and the path to it, for messages.
#[derive(Debug, Clone)]
pub(super) struct Json<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

pub(super) fn parse(text: &str) -> Result<Value, PlansError> {
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| PlansError::Json { reason: e.to_string() })
}

impl<'a> Json<'a> {
    pub(super) fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    pub(super) fn wrong(&self, expected: &'static str) -> PlansError {
        const MOST: usize = 60;
        let mut found = self.value.to_string();
        if let Some((end, _)) = found.char_indices().nth(MOST) {
            found.truncate(end);
            found.push('…');
        }
        PlansError::Entry { entry: self.path.clone(), expected, found }
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, PlansError> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    /// An entry that must exist.
    pub(super) fn get(&self, key: &str) -> Result<Json<'a>, PlansError> {
        static NULL: Value = Value::Null;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        match self.object()?.get(key) {
            Some(value) => Ok(Json { value, path }),
            None => Ok(Json { value: &NULL, path }),
        }
    }

    /// An entry that may be missing or null.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Json<'a>>, PlansError> {
        let found = self.get(key)?;
        Ok(if found.value.is_null() { None } else { Some(found) })
    }

    pub(super) fn text(&self) -> Result<&'a str, PlansError> {
        self.value.as_str().ok_or_else(|| self.wrong("a text"))
    }

    pub(super) fn flag(&self) -> Result<bool, PlansError> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(super) fn number(&self) -> Result<f64, PlansError> {
        self.value.as_f64().filter(|value| value.is_finite()).ok_or_else(|| self.wrong("a number"))
    }

    /// A whole number, possibly written as `2.0`.
    pub(super) fn whole(&self) -> Result<usize, PlansError> {
        const MOST: f64 = 1e9;
        let value = self.value.as_f64().filter(|value| value.fract() == 0.0 && (0.0..=MOST).contains(value));
        value.map(|value| value as usize).ok_or_else(|| self.wrong("a whole number"))
    }

    pub(super) fn list(&self) -> Result<Vec<Json<'a>>, PlansError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("a list"))?;
        Ok(items
            .iter()
            .enumerate()
            .map(|(i, value)| Json { value, path: format!("{}[{i}]", self.path) })
            .collect())
    }

    pub(super) fn wholes(&self) -> Result<Vec<usize>, PlansError> {
        self.list()?.iter().map(Json::whole).collect()
    }

    pub(super) fn numbers(&self) -> Result<Vec<f64>, PlansError> {
        self.list()?.iter().map(Json::number).collect()
    }

    /// A whole number for each of `count` stages: a list, or one number for all.
    pub(super) fn for_each(&self, count: usize) -> Result<Vec<usize>, PlansError> {
        if self.value.is_array() {
            let found = self.wholes()?;
            return if found.len() == count {
                Ok(found)
            } else {
                Err(self.wrong("a list with an entry for each stage"))
            };
        }
        Ok(vec![self.whole()?; count])
    }

    /// Numbers along each of `axes` axes for each of `count` stages. One number stands for all axes, or for all stages.
    pub(super) fn for_each_axis(&self, count: usize, axes: usize) -> Result<Vec<Vec<usize>>, PlansError> {
        let of_stage = |stage: &Json<'_>| stage.for_each(axes);
        if !self.value.is_array() {
            return Ok(vec![of_stage(self)?; count]);
        }
        let stages = self.list()?;
        if stages.len() != count {
            return Err(self.wrong("a list with an entry for each stage"));
        }
        stages.iter().map(of_stage).collect()
    }
}
