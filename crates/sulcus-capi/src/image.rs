use std::ffi::c_char;

use sulcus_volume::Image;

use crate::ffi::{OutPointer, borrowed, call, free, path};
use crate::scan::flat;
use crate::{SulcusGrid, SulcusScan, SulcusStatus};

/// A scan from a file. Created by `sulcus_image_read`, freed by `sulcus_image_free`.
pub struct SulcusImage {
    image: Image,
    shape: [usize; 4],
    ras_from_voxel: [f64; 16],
}

/// Reads a scan from a NIfTI, NRRD or MetaImage file, as `sulcus_segment_file` does. Slope and intercept are applied, and each
/// index of the fourth axis is a channel.
///
/// `image` is filled in; the caller frees it with `sulcus_image_free`. Any thread may call it.
///
/// # Safety
/// `file` is a zero-terminated string; `image` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_read(file: *const c_char, image: *mut *mut SulcusImage) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::handle(image, "image") }?;
        // SAFETY: as the caller promises.
        let image = sulcus_io::read_scan(unsafe { path(file, "file") }?)?.image;
        let [x, y, z] = image.geometry().shape();
        let ras_from_voxel = flat(image.geometry().ras_from_voxel());
        out.give(SulcusImage { shape: [x, y, z, image.channels()], ras_from_voxel, image });
        Ok(())
    })
}

/// Frees an image; null is allowed.
///
/// # Safety
/// `image` is null or from `sulcus_image_read`, was not freed before, and no other thread uses it or a `SulcusScan` of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_free(image: *mut SulcusImage) {
    // SAFETY: as the caller promises.
    unsafe { free(image) }
}

/// Fills in a description of the image for `sulcus_segment`.
///
/// The pointers in `scan` belong to the image and are valid until it is freed. Several threads may call this function at
/// once.
///
/// # Safety
/// `image` is from `sulcus_image_read`; `scan` points to room for a `SulcusScan`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_scan(image: *const SulcusImage, scan: *mut SulcusScan) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::new(scan, "scan") }?;
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
/// Several threads may call this function at once.
///
/// # Safety
/// `image` is from `sulcus_image_read`; `grid` points to room for a `SulcusGrid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_image_grid(image: *const SulcusImage, grid: *mut SulcusGrid) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::new(grid, "grid") }?;
        // SAFETY: as the caller promises.
        out.write(unsafe { borrowed(image, "image") }?.image.geometry().into());
        Ok(())
    })
}
