"""A unikernel of our own, in variants that differ in one property each, and hostile guests.

`build.VARIANTS` is the ground truth; `build.kernel(name)` is the image. To add a variant, add one
row to `VARIANTS` and, if the property is new, one field to `Truth` and its macro to the sources.
"""
