use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::fields::Fields;
use super::problem;
use crate::error::Problem;
use crate::text;

/// Where the axes of a file lie: three (or two) of them in the patient, one more for channels.
#[derive(Debug)]
pub(super) struct Axes {
    pub(super) geometry: Geometry,
    /// Which axis of the file is no axis of the patient.
    pub(super) channel: Option<usize>,
}

type Vector = [f64; 3];

/// +1 or −1 for each coordinate of a named space: what makes it RAS+, and whether the name says where the patient's
/// sides are. `None` for a space that isn't three-dimensional.
fn signs(space: &str) -> Option<(Vector, OrientationSource)> {
    // ITK and 3D Slicer read a space that isn't the patient's as LPS.
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

/// Places the axes of lengths `sizes`.
pub(super) fn axes(fields: &Fields<'_>, sizes: &[usize]) -> Result<Axes, Problem> {
    check_units(fields)?;
    let (signs, mut source) = space(fields)?;
    let (mut steps, origin) = match fields.get("space directions") {
        Some(text) => (vectors(text, sizes.len())?, origin(fields)?),
        None => {
            source = OrientationSource::None;
            from_spacings(fields, sizes)?
        }
    };
    let spatial: Vec<usize> = (0..sizes.len()).filter(|i| steps.get(*i).is_some_and(Option::is_some)).collect();
    let channel = channel_axis(sizes, &spatial)?;
    let mut shape: Vec<usize> = spatial.iter().filter_map(|i| sizes.get(*i).copied()).collect();
    let mut columns: Vec<Vector> = spatial.iter().filter_map(|i| steps.get_mut(*i)?.take()).collect();
    if let [x, y] = *columns {
        // A picture: one slice, a millimetre thick for want of better.
        columns.push(normal(x, y));
        shape.push(1);
    }
    let (Ok(shape), Ok(columns)) = (<[usize; 3]>::try_from(shape), <[Vector; 3]>::try_from(columns)) else {
        return Err(problem(
            "two or three axes in space (`space directions`, or `kinds`)",
            format!("{} of {} axes", spatial.len(), sizes.len()),
            "save the volume with three axes in space and at most one more for its channels",
        ));
    };
    let [x, y, z] = columns;
    let rows = std::array::from_fn(|i| [x[i], y[i], z[i], origin[i]].map(|v| signs[i] * v));
    let map = RasFromVoxel::new(rows)
        .map_err(|source| Problem::Transform { form: "space directions", source: Box::new(source) })?;
    let geometry = Geometry::new(shape, map, source)
        .map_err(|source| Problem::Volume { action: "read the NRRD header", source: source.into() })?;
    Ok(Axes { geometry, channel })
}

/// What makes the file's space RAS+, and whether that is known.
fn space(fields: &Fields<'_>) -> Result<(Vector, OrientationSource), Problem> {
    if let Some(name) = fields.get("space") {
        return signs(name).ok_or_else(|| {
            problem(
                "a space of three dimensions, such as left-posterior-superior (`space`)",
                text::excerpt(name),
                "save the file with directions in one of RAS, LAS and LPS, without time",
            )
        });
    }
    match fields.get("space dimension") {
        None | Some("3") => Ok(([-1.0, -1.0, 1.0], OrientationSource::None)),
        Some(other) => Err(problem(
            "a space of three dimensions (`space dimension`)",
            text::excerpt(other),
            "save the file with directions in one of RAS, LAS and LPS",
        )),
    }
}

/// `(1,0,0) none (0,2,0)`: one entry for each axis.
fn vectors(text: &str, axes: usize) -> Result<Vec<Option<Vector>>, Problem> {
    let damaged = || {
        problem(
            format!("`none` or a vector (x,y,z) for each of {axes} axes (`space directions`)"),
            text::excerpt(text),
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
                // Before `none` was introduced, an axis outside space had a vector of NaN.
                (vector.iter().any(|v| !v.is_nan()).then_some(vector), after)
            }
        };
        out.push(entry);
        rest = after.trim_start();
    }
    if out.len() == axes { Ok(out) } else { Err(damaged()) }
}

/// `1,0,0`
fn vector(text: &str) -> Option<Vector> {
    let mut numbers = text.split(',').map(|word| word.trim().parse().ok());
    let out = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(out)
}

fn origin(fields: &Fields<'_>) -> Result<Vector, Problem> {
    let Some(text) = fields.get("space origin") else { return Ok([0.0; 3]) };
    let inside = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    inside.and_then(vector).ok_or_else(|| {
        problem(
            "a point (x,y,z) (`space origin`)",
            text::excerpt(text),
            "the header is damaged, get the file again",
        )
    })
}

/// Steps along the file's own axes, where it has no directions: sizes are all that is known.
fn from_spacings(fields: &Fields<'_>, sizes: &[usize]) -> Result<(Vec<Option<Vector>>, Vector), Problem> {
    let spatial = spatial_by_kind(fields, sizes)?;
    let list = |name: &'static str| -> Result<Option<Vec<f64>>, Problem> {
        let Some(text) = fields.get(name) else { return Ok(None) };
        let numbers = text::numbers(text, sizes.len()).filter(|list| list.len() == sizes.len());
        numbers.map(Some).ok_or_else(|| {
            problem(
                format!("a number for each of {} axes (`{name}`)", sizes.len()),
                text::excerpt(text),
                "the header is damaged, get the file again",
            )
        })
    };
    let (spacings, mins) = (list("spacings")?, list("axis mins")?);
    let centers: Vec<&str> = fields.get("centers").unwrap_or_default().split_ascii_whitespace().collect();
    let mut steps = vec![None; sizes.len()];
    let mut origin = [0.0; 3];
    for (coordinate, axis) in spatial.into_iter().enumerate() {
        let known = |list: &Option<Vec<f64>>| list.as_ref()?.get(axis).copied().filter(|v| v.is_finite());
        let step = known(&spacings).unwrap_or(1.0);
        let mut vector = [0.0; 3];
        if let (Some(v), Some(o), Some(slot)) =
            (vector.get_mut(coordinate), origin.get_mut(coordinate), steps.get_mut(axis))
        {
            *v = step;
            // The least position is the first voxel's centre, or its border half a step before.
            let border = !centers.get(axis).is_some_and(|c| c.eq_ignore_ascii_case("node"));
            *o = known(&mins).map_or(0.0, |min| min + if border { step / 2.0 } else { 0.0 });
            *slot = Some(vector);
        }
    }
    Ok((steps, origin))
}

/// Which axes lie in space, by what `kinds` says, or the first three.
fn spatial_by_kind(fields: &Fields<'_>, sizes: &[usize]) -> Result<Vec<usize>, Problem> {
    const MOST: usize = 3;
    let Some(text) = fields.get("kinds") else { return Ok((0..sizes.len().min(MOST)).collect()) };
    let kinds: Vec<&str> = text.split_ascii_whitespace().take(sizes.len() + 1).collect();
    if kinds.len() != sizes.len() {
        return Err(problem(
            format!("a word for each of {} axes (`kinds`)", sizes.len()),
            text::excerpt(text),
            "the header is damaged, get the file again",
        ));
    }
    let in_space = |kind: &str| ["domain", "space", "none", "???"].iter().any(|k| kind.eq_ignore_ascii_case(k));
    Ok((0..sizes.len()).filter(|i| kinds.get(*i).is_some_and(|k| in_space(k))).take(MOST).collect())
}

/// The axis that isn't in space. Of several, those of length 1 say nothing.
fn channel_axis(sizes: &[usize], spatial: &[usize]) -> Result<Option<usize>, Problem> {
    let others: Vec<(usize, usize)> =
        sizes.iter().copied().enumerate().filter(|(i, _)| !spatial.contains(i)).collect();
    let mut long = others.iter().filter(|(_, n)| *n > 1);
    let first = long.next().or(others.first()).map(|(i, _)| *i);
    if long.next().is_some() {
        return Err(problem(
            "at most one axis besides those in space, for channels",
            format!("{} of sizes {:?}", others.len(), others.iter().map(|(_, n)| n).collect::<Vec<_>>()),
            "split the file, or put its channels along one axis",
        ));
    }
    Ok(first)
}

/// That positions are in millimetres, as far as the header says.
fn check_units(fields: &Fields<'_>) -> Result<(), Problem> {
    const LENGTHS: [&str; 9] = ["m", "cm", "um", "µm", "nm", "micron", "microns", "in", "inch"];
    let Some(text) = fields.get("space units") else { return Ok(()) };
    let other =
        text.split_ascii_whitespace().map(|word| word.trim_matches('"')).find(|word| LENGTHS.contains(word));
    match other {
        None => Ok(()),
        Some(unit) => Err(problem(
            "positions in mm (`space units`)",
            format!("`{unit}`"),
            "readers differ on other units: save the file in millimetres",
        )),
    }
}

fn normal(x: Vector, y: Vector) -> Vector {
    let n = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    let length = n.iter().map(|v| v * v).sum::<f64>().sqrt();
    // Parallel axes have no normal; the zero is refused with them.
    if length > 0.0 { n.map(|v| v / length) } else { n }
}
