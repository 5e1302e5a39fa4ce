"""The unikernel of `tests.guests` for aarch64: its own kernel, the same application.

`build.VARIANTS` is the ground truth; `build.kernel(name)` is the image. To add a variant, add one
row to `VARIANTS` and, if the property is new, one field to `Truth` and its macro to the sources.
"""
