use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::fields::{Fields, header_error};
use crate::error::IoErrorKind;
use crate::format::text_header;
use crate::text::excerpt;

/// The axes of a file: three (or two) in the patient, and at most one for channels.
#[derive(Debug)]
pub(super) struct Axes {
    pub(super) geometry: Geometry,
    /// The index of the channel axis in the file.
    pub(super) channel: Option<usize>,
}

type Vector = [f64; 3];

/// The sign of each coordinate that converts a named space to RAS+, and whether the name states the patient orientation.
/// `None` for a space that is not three-dimensional.
fn signs(space: &str) -> Option<(Vector, OrientationSource)> {
    // ITK and 3D Slicer read a space without patient orientation as LPS.
    const LPS: Vector = [-1.0, -1.0, 1.0];
    let is = |names: &[&str]| names.iter().any(|name| space.eq_ignore_ascii_case(name));
    if is(&["right-anterior-superior", "RAS"]) {
        Some(([1.0; 3], OrientationSource::Directions))
    } else if is(&["left-anterior-superior", "LAS"]) {
        Some(([-1.0, 1.0, 1.0], OrientationSource::Directions))
    } else if is(&["left-posterior-superior", "LPS"]) {
        Some((LPS, OrientationSource::Directions))
    } else if is(&["scanner-xyz", "3D-right-handed", "3D-left-handed"]) {
        Some((LPS, OrientationSource::None))
    } else {
        None
    }
}

/// Determines the position of the axes with the lengths `sizes`.
pub(super) fn axes(fields: &Fields<'_>, sizes: &[usize]) -> Result<Axes, IoErrorKind> {
    let (signs, mut source) = space(fields)?;
    let (mut steps, origin) = match fields.get("space directions") {
        Some(text) => (vectors(text, sizes.len())?, origin(fields)?),
        None => {
            source = OrientationSource::None;
            from_spacings(fields, sizes)?
        }
    };
    let spatial: Vec<usize> = (0..sizes.len()).filter(|i| steps.get(*i).is_some_and(Option::is_some)).collect();
    check_units(fields, &spatial)?;
    let channel = channel_axis(sizes, &spatial)?;
    let mut shape: Vec<usize> = spatial.iter().filter_map(|i| sizes.get(*i).copied()).collect();
    let mut columns: Vec<Vector> = spatial.iter().filter_map(|i| steps.get_mut(*i)?.take()).collect();
    if let [x, y] = *columns {
        // A 2-D image becomes one slice. Its thickness is unknown; 1 mm is used.
        columns.push(normal(x, y));
        shape.push(1);
    }
    let (Ok(shape), Ok(columns)) = (<[usize; 3]>::try_from(shape), <[Vector; 3]>::try_from(columns)) else {
        return Err(header_error(
            "two or three axes in space (`space directions`, or `kinds`)",
            format!("{} of {} axes", spatial.len(), sizes.len()),
            "save the volume with three axes in space and at most one more for its channels",
        ));
    };
    let [x, y, z] = columns;
    let rows = std::array::from_fn(|i| [x[i], y[i], z[i], origin[i]].map(|v| signs[i] * v));
    let map = RasFromVoxel::new(rows)
        .map_err(|cause| IoErrorKind::Transform { form: "space directions", cause: Box::new(cause) })?;
    let geometry = Geometry::new(shape, map, source)
        .map_err(|cause| IoErrorKind::Volume { action: "read the NRRD header", cause: cause.into() })?;
    Ok(Axes { geometry, channel })
}

/// The signs that convert the space of the file to RAS+, and whether the patient orientation is known.
fn space(fields: &Fields<'_>) -> Result<(Vector, OrientationSource), IoErrorKind> {
    if let Some(name) = fields.get("space") {
        return signs(name).ok_or_else(|| {
            header_error(
                "a space of three dimensions, such as left-posterior-superior (`space`)",
                excerpt(name),
                "save the file with directions in one of RAS, LAS and LPS, without time",
            )
        });
    }
    match fields.get("space dimension") {
        None | Some("3") => Ok(([-1.0, -1.0, 1.0], OrientationSource::None)),
        Some(other) => Err(header_error(
            "a space of three dimensions (`space dimension`)",
            excerpt(other),
            "save the file with directions in one of RAS, LAS and LPS",
        )),
    }
}

/// Parses `(1,0,0) none (0,2,0)`: one entry for each axis.
fn vectors(text: &str, axes: usize) -> Result<Vec<Option<Vector>>, IoErrorKind> {
    let damaged = || {
        header_error(
            format!("`none` or a vector (x,y,z) for each of {axes} axes (`space directions`)"),
            excerpt(text),
            "the header is damaged, get the file again",
        )
    };
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && out.len() <= axes {
        let (entry, after) = match rest.strip_prefix("none") {
            Some(after) => (None, after),
            None => {
                let (inside, after) =
                    rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(damaged)?;
                let vector = vector(inside).ok_or_else(damaged)?;
                // Before `none` was introduced, an axis outside space had a NaN vector.
                (vector.iter().any(|v| !v.is_nan()).then_some(vector), after)
            }
        };
        out.push(entry);
        rest = after.trim_start();
    }
    if out.len() == axes { Ok(out) } else { Err(damaged()) }
}

/// Parses `1,0,0`.
fn vector(text: &str) -> Option<Vector> {
    let mut numbers = text.split(',').map(|word| word.trim().parse().ok());
    let out = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(out)
}

fn origin(fields: &Fields<'_>) -> Result<Vector, IoErrorKind> {
    let Some(text) = fields.get("space origin") else { return Ok([0.0; 3]) };
    let inside = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    inside.and_then(vector).ok_or_else(|| {
        header_error(
            "a point (x,y,z) (`space origin`)",
            excerpt(text),
            "the header is damaged, get the file again",
        )
    })
}

/// The steps along the axes, and the origin, of a file without directions, from its spacings.
fn from_spacings(fields: &Fields<'_>, sizes: &[usize]) -> Result<(Vec<Option<Vector>>, Vector), IoErrorKind> {
    let spatial = spatial_by_kind(fields, sizes)?;
    let list = |name: &'static str| -> Result<Option<Vec<f64>>, IoErrorKind> {
        let Some(text) = fields.get(name) else { return Ok(None) };
        let numbers = text_header::numbers(text, sizes.len()).filter(|list| list.len() == sizes.len());
        numbers.map(Some).ok_or_else(|| {
            header_error(
                format!("a number for each of {} axes (`{name}`)", sizes.len()),
                excerpt(text),
                "the header is damaged, get the file again",
            )
        })
    };
    let (spacings, mins, maxs) = (list("spacings")?, list("axis mins")?, list("axis maxs")?);
    let centers: Vec<&str> = fields.get("centers").unwrap_or_default().split_ascii_whitespace().collect();
    let mut steps = vec![None; sizes.len()];
    let mut origin = [0.0; 3];
    for (coordinate, axis) in spatial.into_iter().enumerate() {
        let known = |list: &Option<Vec<f64>>| list.as_ref()?.get(axis).copied().filter(|v| v.is_finite());
        let is_edge = !centers.get(axis).is_some_and(|c| c.eq_ignore_ascii_case("node"));
        // The range of an axis implies its spacing: from the first to the last edge, or to the last centre.
        let implied = || {
            let size = sizes.get(axis).copied()?;
            let steps = if is_edge { size } else { size.checked_sub(1)? };
            let step = (known(&maxs)? - known(&mins)?) / steps as f64;
            (step.is_finite() && step != 0.0).then_some(step)
        };
        let step = known(&spacings).or_else(implied).unwrap_or(1.0);
        let mut vector = [0.0; 3];
        if let (Some(v), Some(o), Some(slot)) =
            (vector.get_mut(coordinate), origin.get_mut(coordinate), steps.get_mut(axis))
        {
            *v = step;
            // The minimum is the centre of the first voxel, or its edge half a step before.
            *o = known(&mins).map_or(0.0, |min| min + if is_edge { step / 2.0 } else { 0.0 });
            *slot = Some(vector);
        }
    }
    Ok((steps, origin))
}

/// The indices of the axes in space, according to `kinds`; without it the first three.
fn spatial_by_kind(fields: &Fields<'_>, sizes: &[usize]) -> Result<Vec<usize>, IoErrorKind> {
    const MAX_AXES: usize = 3;
    let Some(text) = fields.get("kinds") else { return Ok((0..sizes.len().min(MAX_AXES)).collect()) };
    let kinds: Vec<&str> = text.split_ascii_whitespace().take(sizes.len() + 1).collect();
    if kinds.len() != sizes.len() {
        return Err(header_error(
            format!("a word for each of {} axes (`kinds`)", sizes.len()),
            excerpt(text),
            "the header is damaged, get the file again",
        ));
    }
    let in_space = |kind: &str| ["domain", "space", "none", "???"].iter().any(|k| kind.eq_ignore_ascii_case(k));
    Ok((0..sizes.len()).filter(|i| kinds.get(*i).is_some_and(|k| in_space(k))).take(MAX_AXES).collect())
}

/// The index of the axis that is not in space. Further such axes must have length 1.
fn channel_axis(sizes: &[usize], spatial: &[usize]) -> Result<Option<usize>, IoErrorKind> {
    let others: Vec<(usize, usize)> =
        sizes.iter().copied().enumerate().filter(|(i, _)| !spatial.contains(i)).collect();
    let mut long = others.iter().filter(|(_, n)| *n > 1);
    let first = long.next().or(others.first()).map(|(i, _)| *i);
    if long.next().is_some() {
        return Err(header_error(
            "at most one axis besides those in space, for channels",
            format!("{} axes of sizes {:?}", others.len(), others.iter().map(|(_, n)| n).collect::<Vec<_>>()),
            "split the file, or put its channels along one axis",
        ));
    }
    Ok(first)
}

/// Checks that positions are in millimetres, where the header states a unit: for the space (`space units`), or for each axis
/// (`units`), of which those outside space may have any unit.
fn check_units(fields: &Fields<'_>, spatial: &[usize]) -> Result<(), IoErrorKind> {
    let of_space = fields.get("space units").map(quoted).unwrap_or_default();
    let of_axes = fields.get("units").map(quoted).unwrap_or_default();
    let in_space = of_axes.iter().enumerate().filter(|(axis, _)| spatial.contains(axis)).map(|(_, unit)| *unit);
    let stated = of_space.iter().map(|unit| ("space units", *unit)).chain(in_space.map(|unit| ("units", unit)));
    match stated.into_iter().find(|(_, unit)| !text_header::is_millimetres(unit)) {
        None => Ok(()),
        Some((field, unit)) => Err(header_error(
            format!("positions in mm (`{field}`)"),
            excerpt(unit),
            "readers differ on other units: save the file in millimetres",
        )),
    }
}

/// Splits `"mm" "" "s"`, whose quotes may be missing.
fn quoted(text: &str) -> Vec<&str> {
    if !text.contains('"') {
        return text.split_ascii_whitespace().collect();
    }
    text.split('"').skip(1).step_by(2).collect()
}

fn normal(x: Vector, y: Vector) -> Vector {
    let n = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    let length = n.iter().map(|v| v * v).sum::<f64>().sqrt();
    // Parallel axes have no normal; the transform refuses the zero vector.
    if length > 0.0 { n.map(|v| v / length) } else { n }
}
