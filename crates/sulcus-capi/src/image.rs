use std::ffi::c_char;

use sulcus_volume::Image;

use crate::border::{Out, borrowed, free, guard, path};
use crate::scan::flat;
use crate::{SulcusGrid, SulcusScan, SulcusStatus};

/// A scan that was read from a file. Made by `sulcus_image_read`, freed by `sulcus_image_free`.
pub struct SulcusImage {
    image: Image,
    shape: [usize; 4],
    ras_from_voxel: [f64; 16],
}

/// Reads a scan from a NIfTI, NRRD or MetaImage file, as `sulcus_segment_file` does: intensities after slope and intercept,
/// a channel for each index of the fourth axis.
///
/// `image` is filled in; the caller frees it with `sulcus_image_free`. Any thread may call it.
///
/// # Safety
/// `file` is a text that ends with a zero byte; `image` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_read(file: *const c_char, image: *mut *mut SulcusImage) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::handle(image, "image") }?;
        // SAFETY: as the caller promises.
        let image = sulcus_io::read_scan(unsafe { path(file, "file") }?)?.image;
        let [x, y, z] = image.geometry().shape();
        let ras_from_voxel = flat(image.geometry().ras_from_voxel());
        out.give(SulcusImage { shape: [x, y, z, image.channels()], ras_from_voxel, image });
        Ok(())
    })
}

/// Frees an image; null is nothing.
///
/// # Safety
/// `image` is null or from `sulcus_image_read`, was not freed before, and no other thread uses it or a `SulcusScan` of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_free(image: *mut SulcusImage) {
    // SAFETY: as the caller promises.
    unsafe { free(image) }
}

/// Fills in the image's voxels and where they lie, as `sulcus_segment` takes them.
///
/// What the scan's pointers point to belongs to the image and lives as long. Several threads may ask at once.
///
/// # Safety
/// `image` is from `sulcus_image_read`; `scan` points to room for a `SulcusScan`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_scan(image: *const SulcusImage, scan: *mut SulcusScan) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(scan, "scan") }?;
        // SAFETY: as the caller promises.
        let SulcusImage { image, shape, ras_from_voxel } = unsafe { borrowed(image, "image") }?;
        out.write(SulcusScan {
            voxels: image.data().as_ptr(),
            length: image.data().len(),
            shape: shape.as_ptr(),
            rank: shape.len(),
            ras_from_voxel: ras_from_voxel.as_ptr(),
        });
        Ok(())
    })
}

/// Fills in the image's grid.
///
/// `grid` is the caller's. Several threads may ask at once.
///
/// # Safety
/// `image` is from `sulcus_image_read`; `grid` points to room for a `SulcusGrid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_grid(image: *const SulcusImage, grid: *mut SulcusGrid) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(grid, "grid") }?;
        // SAFETY: as the caller promises.
        out.write(unsafe { borrowed(image, "image") }?.image.geometry().into());
        Ok(())
    })
}
